# SPDX-License-Identifier: LGPL-2.1-or-later
# A few words in front of meson. On a fresh Debian 12, as root, each of them installs what it needs.
#
#   make            build into build/
#   make demo       watch snapshots being deleted under a guest that writes (KEEP=1: leave it running)
#   make install    DESTDIR= PREFIX=/usr/local
#   make docs       docs/states.md, docs/routes.md and docs/openapi.json from the program's tables
#   make test       everything; TESTS="tests/e2e/test_delete.py -k leaf" for a part of the end to end tests
#   make page       the web page's types and unit tests: a part of make test, if there is Node.js
#   make screenshots  the pictures of docs/web.md, made by the browser test
#   make model      the protocol, checked by spin: a part of make test
#   make sim        the product's own code in a simulated host, with faults at every point; SECONDS=600 for longer
#   make contract   what src/hypervisor promises, on the simulator and on libvirt and QEMU: a part of make test
#   make test-crash everybody is killed at every fault point of every flow, about half an hour; ALL=everything for hours of it
#   make sanitize   the unit tests with gcc's sanitizers, in build-asan; UNITS='api*' for some of them
#   make check      formatting, include direction, static analysis, spelling
#   make bench      against virsh and libvirt's own delete; writes build/bench.json
PREFIX ?= /usr/local
TESTS ?= tests/e2e
PYTHON = /usr/bin/python3
JOBS ?= $(shell nproc)

SECONDS ?= 60
# The end to end tests wait more than they compute.
WORKERS ?= $(shell echo $$((($(JOBS) * 3 + 1) / 2)))
# What is made before a test; tests/everything has it made already.
NEEDS ?= all

.PHONY: all configure docs unit sanitize page screenshots model sim contract test test-crash e2e check demo bench fuzz install clean

all: configure
	@tools/build-page.sh build
	@ninja -C build -j $(JOBS)

# Meson looks which source files exist when it sets up: again whenever there are others.
configure:
	@tools/install-deps.sh build
	@mkdir -p build
	@ls meson.build src/*/*.c src/*.c tests/unit/*.c packaging/*/* 2>/dev/null >build/.files.new; \
	    if [ -f build/build.ninja ] && cmp -s build/.files build/.files.new; then rm build/.files.new; \
	    else meson setup $$([ ! -f build/build.ninja ] || echo --reconfigure) build . >build/meson-setup.log \
	        || { cat build/meson-setup.log; exit 1; }; mv build/.files.new build/.files; fi

install: all
	@meson configure build -Dprefix=$(PREFIX)
	@meson install -C build $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

docs: all
	@build/src/docs docs

unit: $(NEEDS)
	@tools/install-deps.sh test
	@tests/unit/run build

sanitize: configure
	@tools/install-deps.sh test
	@if [ ! -f build-asan/build.ninja ]; then \
	    meson setup -Db_sanitize=address,undefined -Db_lundef=false build-asan . >build/meson-asan.log || { cat build/meson-asan.log; exit 1; }; \
	elif [ build/.files -nt build-asan/build.ninja ]; then meson setup --reconfigure build-asan . >build/meson-asan.log; fi
	@ninja -C build-asan -j $(JOBS)
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 tests/unit/run build-asan $(if $(UNITS),'$(UNITS)')

page: $(NEEDS)
	@if [ -d web/node_modules ]; then cd web && node_modules/.bin/tsc --noEmit && node_modules/.bin/vitest run --reporter=dot; \
	    else echo "The web page is not tested: it was not built."; fi

screenshots:
	@$(MAKE) --no-print-directory e2e TESTS=tests/e2e/test_page.py
	@for name in vms snapshots create plan progress outcome clone mend users; do cp build/browser/$$name.png docs/web-$$name.png; done

model:
	@tools/install-deps.sh test
	@$(PYTHON) -B tests/model/run

sim: $(NEEDS)
	@tests/sim/run --seconds $(SECONDS) $(if $(CHANCE),--chance $(CHANCE))
	@tests/sim/run --mutants

contract: $(NEEDS)
	@tools/install-deps.sh test
	@tests/contract/run build

e2e: $(NEEDS)
	@tools/install-deps.sh test
	@tests/lib/guest/build.sh build/guest
	@$(PYTHON) -B -m pytest -p no:cacheprovider -o faulthandler_timeout=900 -q -ra -n $(WORKERS) --dist loadfile $(TESTS)

test:
	@tools/install-deps.sh test
	@$(MAKE) --no-print-directory all
	@tests/everything

test-crash: all
	@tools/install-deps.sh test
	@tests/lib/guest/build.sh build/guest
	@tests/crash/run $(ALL)

check: configure
	@tools/install-deps.sh check
	@tools/check.sh

demo:
	@tools/install-deps.sh demo
	@$(MAKE) --no-print-directory all
	@tests/lib/guest/build.sh build/guest
	@KEEP=$(KEEP) $(PYTHON) -B tests/demo/demo.py

bench:
	@tools/install-deps.sh test
	@$(MAKE) --no-print-directory all
	@tests/lib/guest/build.sh build/guest
	@$(PYTHON) -B tests/bench/bench.py

fuzz:
	@tools/install-deps.sh test
	@tests/fuzz/run $(SECONDS)

clean:
	rm -rf build
