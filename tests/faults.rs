//! Every row of `docs/faults.md`: a fault at a step of an apply, and what is
//! true afterwards. The rows are read from there, so that the document can't
//! say anything else than what was seen.

mod machine;

use machine::Machine;
pub(crate) use machine::local_status;

/// One row: what strikes where, and what is then seen.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    /// `swap 4`: the fourth time that the step begins; `undo: swap 4` the same within the undo.
    at: String,
    fault: String,
    at_first: String,
    in_the_end: String,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(crate::harness::repository().join("docs/faults.md")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, at, fault, at_first, in_the_end] = cells[..] else { panic!("not a row: {line}") };
        Row {
            name: name.trim_matches('`').to_owned(),
            at: at.to_owned(),
            fault: fault.to_owned(),
            at_first: at_first.to_owned(),
            in_the_end: in_the_end.to_owned(),
        }
    };
    lines.map(row).collect()
}

/// Runs the row of that name.
fn run(name: &str) {
    let row = rows().into_iter().find(|row| row.name == name);
    let row = row.unwrap_or_else(|| panic!("docs/faults.md has no row {name}"));
    let mut machine = Machine::new(&row.fault, row.at.starts_with("undo"));
    machine.strike(&row.at, &row.fault);
    machine.expect("at first", &row.at_first);
    machine.mend(&row.fault);
    machine.expect("in the end", &row.in_the_end);
}

macro_rules! rows {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn the_document_has_exactly_these_rows() {
            let written: Vec<String> = rows().into_iter().map(|row| row.name).collect();
            assert_eq!(written, [$(stringify!($name)),*]);
            for step in lockstep_follower::step::Step::ALL {
                let struck = rows().iter().any(|row| row.at.contains(step.name()));
                assert!(struck, "nothing strikes at {}", step.name());
            }
        }
    };
}

rows! {
    kill_at_fetch,
    kill_at_plan,
    kill_at_check,
    kill_at_lease,
    kill_at_stage,
    kill_at_commit,
    kill_at_swap,
    kill_between_swaps,
    kill_at_act,
    kill_at_prove,
    kill_at_report,
    kill_before_sync,
    kill_before_keep,
    kill_before_save,
    kill_before_blank,
    kill_at_act_of_what_fails,
    kill_at_stage_of_undo,
    kill_at_commit_of_undo,
    kill_at_swap_of_undo,
    kill_at_act_of_undo,
    kill_at_prove_of_undo,
    kill_at_report_of_undo,
    power_cut_at_stage,
    power_cut_at_commit,
    power_cut_at_swap,
    power_cut_between_swaps,
    power_cut_at_act,
    power_cut_at_prove,
    power_cut_at_report,
    power_cut_before_keep,
    power_cut_before_blank,
    power_cut_at_commit_of_undo,
    power_cut_at_swap_of_undo,
    power_cut_at_report_of_undo,
    full_disk_at_stage,
    full_disk_at_prove,
    full_disk_at_stage_of_undo,
    read_only_at_stage,
    read_only_at_swap,
    read_only_at_swap_of_undo,
    engine_gone_at_plan,
    engine_gone_at_act,
    engine_gone_at_prove,
    engine_gone_at_act_of_undo,
    leader_gone_at_fetch,
    leader_gone_at_act,
    leader_gone_at_act_of_what_fails,
}

/// `LOCKSTEP_KILLS=500` for a long run; the few of every day are for the test's own sake.
#[test]
fn killed_at_random_moments_it_is_one_of_the_two_in_the_end() {
    let kills: u32 = std::env::var("LOCKSTEP_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let mut machine = Machine::new("kill -9", false);
    machine.start();
    machine.expect("before", "new, APPLIED(2)");
    for round in 1..=kills {
        // Every third can't run, and is to be undone whatever happens meanwhile.
        machine.publish_and_kill(if round % 3 == 0 { "bad" } else { "good" }, round);
    }
}
