// SPDX-License-Identifier: LGPL-2.1-or-later
import "@patternfly/react-core/dist/styles/base.css";
import "./page.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { connect } from "./live";
import { applyTheme } from "./parts/theme";

applyTheme();
connect();
createRoot(document.getElementById("page")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
