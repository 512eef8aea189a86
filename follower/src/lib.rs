//! The follower: pulls the bundle that the leader has for this machine,
//! plans, writes, acts on exactly the affected containers, proves, reports.

mod act;
mod action;
mod compose;
mod compose_file;
mod config;
mod container;
mod disk;
mod docker;
mod journal;
mod plan;
mod prove;
mod state;
mod view;
mod write;
