//! `lockstep`: one binary for every machine. Thin doors into the leader and
//! the follower, and the commands people type.

mod arguments;
mod command;
mod exit;
mod hidden;
mod joining;
mod moment;
mod printable;
mod progress;
mod remote;
mod service;
mod shipped;
mod socket;
mod unit;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    exit::code(command::run(arguments))
}
