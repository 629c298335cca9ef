/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The test guest's writer: takes commands on the serial console (stdin), one a line, and answers
 * each with a line "R COMMAND ...". Linked statically, run by init.
 *
 *   w DEV OFF LEN SEED [SEQ]   write the pattern, offset and length in KiB
 *   c DEV OFF LEN SEED [SEQ]   compare with the pattern
 *   h DEV                      hash of the whole disk
 *   s DEV BLOCKS SEED USEC [FIRST]  start a stream: 4 KiB O_DIRECT|O_SYNC writes all over the first
 *                              BLOCKS blocks, USEC apart (0 = without pause), numbered from
 *                              FIRST; "A DEV SEQ" is said after each one that the disk
 *                              acknowledged, "E DEV SEQ ERRNO" after a failed one
 *   u DEV USEC                 change a stream's pace
 *   x DEV                      stop it; says how many were written and the longest wait
 *   z DEV OFF LEN              discard
 *   t                          time, us    p  power off    r  reboot
 *
 * A stream has a thread of its own, so a disk that stands still holds up no other.
 */
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 1 << 20, MAX_STREAMS = 8, MAX_LINE = 512 };

typedef struct {
    char dev[16];
    int fd;
    uint64_t n_blocks, seed, seq;
    volatile uint64_t pace; /* us */
    volatile bool stop;
    uint64_t longest; /* us between asking and acknowledgement */
    pthread_t thread;
    bool used;
} Stream;

typedef struct {
    const char *line;
    char dev[16];
    unsigned long a, b, c, d;
} Command;

static Stream streams[MAX_STREAMS];
static pthread_mutex_t talking = PTHREAD_MUTEX_INITIALIZER;
static uint64_t *big; /* aligned, BIG bytes, of the command thread */

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
    char line[MAX_LINE];
    va_list args;

    va_start(args, format);
    int left = vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    if (left > MAX_LINE - 2)
        left = MAX_LINE - 2;
    line[left++] = '\n';
    pthread_mutex_lock(&talking);
    for (char *at = line; left > 0;) {
        ssize_t n = write(1, at, left);
        if (n <= 0)
            break;
        at += n;
        left -= n;
    }
    pthread_mutex_unlock(&talking);
}

static uint64_t
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

static int
disk_open(const char *dev, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/dev/%s", dev);
    return open(path, flags | O_CLOEXEC);
}

static uint64_t *
aligned(size_t size)
{
    void *memory = NULL;

    return posix_memalign(&memory, BLOCK, size) == 0 ? memory : NULL;
}

static void *
stream_run(void *data)
{
    Stream *s = data;
    uint64_t *block = aligned(BLOCK);
    uint64_t next = now();

    while (!s->stop) {
        uint64_t number = stream_block(s->seed, s->seq, s->n_blocks);
        uint64_t began = now();
        pattern_fill(block, s->seed, number, s->seq);
        if (pwrite(s->fd, block, BLOCK, number * BLOCK) == BLOCK)
            say("A %s %lu", s->dev, s->seq);
        else
            say("E %s %lu %d", s->dev, s->seq, errno);
        s->seq++;
        uint64_t ended = now();
        if (ended - began > s->longest)
            s->longest = ended - began;
        next += s->pace;
        if (next > ended)
            usleep(next - ended);
        else
            next = ended;
    }
    free(block);
    return NULL;
}

static Stream *
stream_find(const char *dev)
{
    for (int i = 0; i < MAX_STREAMS; i++)
        if (streams[i].used && strcmp(streams[i].dev, dev) == 0)
            return &streams[i];
    return NULL;
}

static void
stream_start(const Command *c)
{
    Stream *s = streams;

    while (s < streams + MAX_STREAMS && s->used)
        s++;
    if (s == streams + MAX_STREAMS || stream_find(c->dev) != NULL || c->a == 0) {
        say("R %s FAIL", c->line);
        return;
    }
    *s = (Stream){ .n_blocks = c->a, .seed = c->b, .pace = c->c, .seq = c->d };
    strcpy(s->dev, c->dev);
    s->fd = disk_open(c->dev, O_RDWR | O_DIRECT | O_SYNC);
    if (s->fd < 0) {
        say("R %s FAIL", c->line);
        return;
    }
    s->used = true;
    say("R %s ok", c->line);
    pthread_create(&s->thread, NULL, stream_run, s);
}

static void
stream_stop(const Command *c)
{
    Stream *s = stream_find(c->dev);

    if (s == NULL) {
        say("R %s FAIL", c->line);
        return;
    }
    s->stop = true;
    pthread_join(s->thread, NULL);
    close(s->fd);
    s->used = false;
    say("R x %s seq=%lu longest_us=%lu", s->dev, s->seq, s->longest);
}

static void
stream_pace(const Command *c)
{
    Stream *s = stream_find(c->dev);

    if (s != NULL)
        s->pace = c->a;
    say("R %s %s", c->line, s != NULL ? "ok" : "FAIL");
}

/* Counts blocks of big[0..size) that differ from the pattern. */
static long
count_bad(size_t size, uint64_t first, uint64_t seed, uint64_t seq)
{
    static uint64_t want[BLOCK_WORDS];
    long bad = 0;

    for (size_t i = 0; i < size / BLOCK; i++) {
        pattern_fill(want, seed, first + i, seq);
        bad += memcmp(want, big + i * BLOCK_WORDS, BLOCK) != 0;
    }
    return bad;
}

static void
area(const Command *c, bool writing)
{
    uint64_t began = now(), at = c->a * 1024, end = at + c->b * 1024;
    int fd = disk_open(c->dev, (writing ? O_RDWR : O_RDONLY) | O_DIRECT);
    int failed = fd < 0 ? errno : 0;
    long bad = 0;

    while (failed == 0 && at < end) {
        size_t size = end - at < BIG ? end - at : BIG;
        if (writing)
            for (size_t i = 0; i < size / BLOCK; i++)
                pattern_fill(big + i * BLOCK_WORDS, c->c, at / BLOCK + i, c->d);
        ssize_t n = writing ? pwrite(fd, big, size, at) : pread(fd, big, size, at);
        if (n != (ssize_t)size)
            failed = errno != 0 ? errno : EIO;
        else if (!writing)
            bad += count_bad(size, at / BLOCK, c->c, c->d);
        at += size;
    }
    if (writing && failed == 0 && fsync(fd) != 0)
        failed = errno;
    if (fd >= 0)
        close(fd);
    say("R %s %s bad=%ld err=%d us=%lu", c->line, bad || failed ? "FAIL" : "ok", bad, failed,
        now() - began);
}

/* FNV-1a over 64-bit words */
static void
hash(const Command *c)
{
    uint64_t began = now(), sum = 0xcbf29ce484222325ULL, size = 0;
    int fd = disk_open(c->dev, O_RDONLY | O_DIRECT);
    ssize_t n = 0;

    if (fd >= 0 && ioctl(fd, BLKGETSIZE64, &size) == 0)
        for (uint64_t at = 0; at < size && (n = pread(fd, big, BIG, at)) > 0; at += n)
            for (ssize_t i = 0; i < n / 8; i++)
                sum = (sum ^ big[i]) * 0x100000001b3ULL;
    say("R %s %016lx size=%lu err=%d us=%lu", c->line, sum, size, n < 0 || fd < 0 ? errno : 0,
        now() - began);
    if (fd >= 0)
        close(fd);
}

static void
discard(const Command *c)
{
    uint64_t range[2] = { c->a * 1024, c->b * 1024 };
    int fd = disk_open(c->dev, O_RDWR);
    int failed = fd < 0 || ioctl(fd, BLKDISCARD, range) != 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    say("R %s err=%d", c->line, failed);
}

static void
obey(const char *line)
{
    char verb[16] = "";
    Command c = { .line = line };

    sscanf(line, "%15s %15s %lu %lu %lu %lu", verb, c.dev, &c.a, &c.b, &c.c, &c.d);
    switch (verb[1] == '\0' ? verb[0] : '?') {
    case 'w':
        area(&c, true);
        break;
    case 'c':
        area(&c, false);
        break;
    case 'h':
        hash(&c);
        break;
    case 's':
        stream_start(&c);
        break;
    case 'u':
        stream_pace(&c);
        break;
    case 'x':
        stream_stop(&c);
        break;
    case 'z':
        discard(&c);
        break;
    case 't':
        say("R t %lu", now());
        break;
    case 'p':
        say("R p");
        sync();
        reboot(RB_POWER_OFF);
        break;
    case 'r':
        say("R r");
        reboot(RB_AUTOBOOT);
        break;
    default:
        say("R %s unknown", line);
    }
}

int
main(void)
{
    struct termios terminal;
    char line[MAX_LINE];
    size_t length = 0;
    char c;

    big = aligned(BIG);
    if (big == NULL)
        return 1;
    tcgetattr(0, &terminal);
    cfmakeraw(&terminal);
    tcsetattr(0, TCSAFLUSH, &terminal);
    say("GW-READY");
    while (read(0, &c, 1) == 1) {
        if (c != '\n' && c != '\r') {
            if (length < MAX_LINE - 64)
                line[length++] = c;
            continue;
        }
        line[length] = '\0';
        if (length > 0)
            obey(line);
        length = 0;
    }
    return 1;
}
