//! Work that several threads share.

use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use nix::sched::CpuSet;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

/// Maps items in their order, on as many CPUs as this process may use.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = match items {
        [] | [_] => 1,
        _ => thread::available_parallelism().map_or(1, NonZero::get),
    };
    map_on(threads, items, work)
}

/// As [`map`], with this many threads: for work that mostly waits.
pub(crate) fn map_on<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let each = items.len().div_ceil(threads.max(1)).max(1);
    let (mine, theirs) = items.split_at(each.min(items.len()));
    let all = &|items: &[T]| items.iter().map(&work).collect::<Vec<_>>();
    thread::scope(|scope| {
        let start = |items| {
            thread::Builder::new().spawn_scoped(scope, move || all(items)).map_err(|_| items)
        };
        let theirs: Vec<_> = theirs.chunks(each).map(start).collect();
        let mut done = all(mine);
        for part in theirs {
            done.extend(match part {
                Ok(part) => part.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // The system gives no thread: this thread does the work, which takes longer.
                Err(items) => all(items),
            });
        }
        done
    })
}

/// Runs a function on one CPU. An error: this process may not run there, or the CPU is offline.
pub(crate) fn on_cpu<T: Send>(cpu: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let mut only = CpuSet::new();
    only.set(cpu as usize)?;
    thread::scope(|scope| {
        // Use a new thread, so that the caller's thread is not bound to the CPU.
        let thread = thread::Builder::new().spawn_scoped(scope, || -> io::Result<T> {
            sched_setaffinity(Pid::from_raw(0), &only)?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::map_on;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 2, 3, 7, 64, 65] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [0, 1, 2, 3, 64, 100] {
                assert_eq!(map_on(threads, &items, |item| *item), items, "{threads} threads");
            }
        }
    }
}
