//! Gives memory back that nothing needs at the moment: most of what a service
//! that idles keeps resident is its own program, and most of that is code for
//! starting: reading arguments and configuration, making keys, opening stores.
//!
//! The pages stay in the kernel's cache of the file, from which those that are
//! needed again come back a fault for each sixteen (proc(5), madvise(2)).

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::io;
use std::ops::Range;

/// Lets go of every page of the program that holds just what its file holds.
/// Bytes that were resident in those mappings.
///
/// To be called now and then: what is needed next takes a fraction of a
/// millisecond to come back.
///
/// # Errors
///
/// Where `/proc/self` can't be read; nothing is given back then.
pub fn give_back_program() -> io::Result<usize> {
    // Not its libraries: one may be loading at this moment, on another thread.
    let program = std::fs::read_link("/proc/self/exe")?;
    let mappings = unwritten(&std::fs::read_to_string("/proc/self/smaps")?, &program.to_string_lossy());
    let mut given = 0;
    for Mapping { range, resident, .. } in mappings {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
        // SAFETY: a private mapping of a file that can't be written to and has no page of its own reads as
        // the file, before and after: the kernel maps the same page of the file again when it is next read.
        // The program's own were made before it began, and nobody maps anything else in their place.
        #[expect(unsafe_code, reason = "the advice is about addresses, which no library can vouch for")]
        let advised = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        if advised.is_ok() {
            given += resident;
        }
    }
    Ok(given)
}

/// One entry of `smaps`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mapping {
    range: Range<usize>,
    /// Bytes of it in memory.
    resident: usize,
    /// Whether it is the program's, and only read.
    read_only: bool,
    /// Whether it has pages that the file doesn't have; unknown until the kernel says.
    written: Option<bool>,
}

/// The mappings of `program` that hold what it holds.
fn unwritten(smaps: &str, program: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = head(line, program) {
            mappings.push(mapping);
            continue;
        }
        let (Some(mapping), Some((name, value))) = (mappings.last_mut(), line.split_once(':')) else { continue };
        let kilobytes = || value.trim().strip_suffix(" kB").and_then(|number| number.parse::<usize>().ok());
        match name {
            "Rss" => mapping.resident = kilobytes().unwrap_or(0) * 1024,
            // Relocations, a debugger's breakpoints: pages that the file doesn't have.
            "Anonymous" => mapping.written = kilobytes().map(|anonymous| anonymous > 0),
            // Locked into memory by somebody who wants it there.
            "Locked" => mapping.read_only &= kilobytes() == Some(0),
            _ => {}
        }
    }
    mappings.retain(|mapping| mapping.read_only && mapping.written == Some(false) && mapping.resident > 0);
    mappings
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE PATH`, where a line is that.
fn head(line: &str, program: &str) -> Option<Mapping> {
    let (place, rest) = line.split_once(' ')?;
    let (start, end) = place.split_once('-')?;
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    let range = address(start)?..address(end)?;
    let permissions = rest.split(' ').next()?;
    // A path may have blanks in it, what stands before it has no slash.
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let read_only = matches!(permissions, "r--p" | "r-xp") && path == program;
    Some(Mapping { range, resident: 0, read_only, written: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of which a newer version was installed meanwhile.
    const PROGRAM: &str = "/usr/bin/lock step (deleted)";
    const SMAPS: &str = "\
55d000000000-55d000002000 r--p 00000000 fd:00 4242                       /usr/bin/lock step (deleted)
Rss:                   8 kB
Anonymous:             0 kB
55d000002000-55d000006000 r-xp 00002000 fd:00 4242                       /usr/bin/lock step (deleted)
Rss:                  12 kB
Anonymous:             0 kB
55d000006000-55d000008000 r--p 00006000 fd:00 4242                       /usr/bin/lock step (deleted)
Rss:                   8 kB
Anonymous:             8 kB
55d000008000-55d000009000 rw-p 00008000 fd:00 4242                       /usr/bin/lock step (deleted)
Rss:                   4 kB
Anonymous:             0 kB
55d00000a000-55d00000b000 r-xp 0000a000 fd:00 4242                       /usr/bin/lock step (deleted)
Rss:                   4 kB
Anonymous:             0 kB
Locked:                4 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
Rss:                   4 kB
Anonymous:             0 kB
7ffd00002000-7ffd00003000 r-xp 00000000 fd:00 76                         /usr/lib/libc.so.6
Rss:                   4 kB
Anonymous:             0 kB
7ffd00003000-7ffd00004000 r--s 00000000 fd:00 77                         /usr/bin/lock step (deleted)
Rss:                   4 kB
Anonymous:             0 kB
7ffd00005000-7ffd00006000 r--p 00000000 fd:00 78                         /usr/bin/lock step (deleted)
Rss:                   0 kB
Anonymous:             0 kB
";

    #[test]
    fn what_a_file_says_whole_is_given_back_and_nothing_else() {
        let mapping = |range, resident| Mapping { range, resident, read_only: true, written: Some(false) };
        let expected = [
            mapping(0x55d0_0000_0000..0x55d0_0000_2000, 8 * 1024),
            mapping(0x55d0_0000_2000..0x55d0_0000_6000, 12 * 1024),
        ];
        assert_eq!(unwritten(SMAPS, PROGRAM), expected);
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_taken_for_one_that_wrote() {
        let untold = SMAPS.replace("Anonymous:", "Another:");
        assert_eq!(unwritten(&untold, PROGRAM), []);
    }

    #[test]
    fn what_was_given_back_comes_again() {
        static TABLE: [u64; 4096] = {
            let mut table = [0; 4096];
            let mut at = 0;
            while at < 4096 {
                table[at] = at as u64 * 3;
                at += 1;
            }
            table
        };
        let sum = || std::hint::black_box(&TABLE).iter().sum::<u64>();
        let before = sum();
        assert!(give_back_program().unwrap() > 0);
        assert_eq!(sum(), before);
    }
}
