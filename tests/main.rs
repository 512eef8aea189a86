//! The whole of lockstep, over its real edges: the binary, HTTP, files, a real
//! Docker engine. One test binary, one module a theme, one harness.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]

mod alone;
mod api;
mod bad_input;
mod canaries;
mod certificates;
mod checks;
mod command_line;
mod commands;
mod containers;
mod crashes;
mod drift;
mod faults;
mod files;
mod founding;
mod harness;
mod independent;
mod joining;
mod machines;
mod migrations;
mod mounts;
mod package;
mod platform_file;
mod privilege;
mod pryv;
mod revisions;
mod rollouts;
mod scripts;
mod settings;
mod templates;
mod tls;
mod undo;
mod verbs;
mod volumes;
mod watch;
