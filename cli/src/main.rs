//! `lockstep`: one binary for every machine. Thin doors into the leader and
//! the follower, and the commands people type.

mod arguments;
mod command;
mod completing;
mod contexts;
mod doctor;
mod exit;
mod help;
mod hidden;
mod hints;
mod joining;
mod moment;
mod printable;
mod progress;
mod reference;
mod remote;
mod service;
mod shipped;
mod socket;
mod unit;

use clap::FromArgMatches as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(root) = arguments::follower_alone(&words)
        && std::env::var_os("COMPLETE").is_none()
    {
        return exit::code(command::run_follower(&root.path()));
    }
    // Ends here where a shell asks what could be typed next.
    clap_complete::CompleteEnv::with_factory(|| completing::with_candidates(help::command())).complete();
    let arguments = help::command().get_matches();
    let arguments = arguments::Arguments::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    exit::code(command::run(arguments))
}
