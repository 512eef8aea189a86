//! The same work on many things, on all the processors there are.

use std::num::NonZero;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{panic, thread};

/// Files for one thread: so few are rendered in the time that another thread takes to start and be
/// heard (measured: 49 files, a third of a millisecond, gained nothing and lost where the processors were busy).
const FEW: usize = 64;
/// Threads at most: a leader leaves room for those whom it serves.
const MOST: usize = 8;

/// What `work` makes of each of `items`, in their order.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    // Asked once: the answer is put together from a handful of files.
    static PROCESSORS: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get).min(MOST));
    spread(items, work, items.len().div_ceil(FEW).min(*PROCESSORS))
}

fn spread<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync, threads: usize) -> Vec<R> {
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::with_capacity(items.len() / threads + 1);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    thread::scope(|scope| {
        // A thread that the system refuses is missed by nobody: the others take its share.
        let start = |_| thread::Builder::new().name("render".to_owned()).spawn_scoped(scope, take).ok();
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        let mut done = take();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)));
        }
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thing_is_done_once_and_answers_in_its_place() {
        for (count, threads) in [(0, 1), (1, 4), (7, 2), (100, 3)] {
            let items: Vec<usize> = (0..count).collect();
            let asked = AtomicUsize::new(0);
            let squares = spread(
                &items,
                |item| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    item * item
                },
                threads,
            );
            assert_eq!(squares, items.iter().map(|item| item * item).collect::<Vec<_>>());
            assert_eq!(asked.into_inner(), count);
        }
    }

    #[test]
    fn a_panic_is_the_callers() {
        let items: Vec<usize> = (0..50).collect();
        let work = |item: &usize| assert_ne!(*item, 30, "this one");
        assert!(panic::catch_unwind(|| spread(&items, work, 4)).is_err());
    }
}
