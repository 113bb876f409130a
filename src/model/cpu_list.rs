//! Lists of CPUs, as operators and the kernel write them, in bounded memory.

use std::collections::BTreeSet;

use crate::model::abi::consts;

/// CPU numbers that users give are below this.
pub const MAX_CPUS: u32 = consts::MAX_CPUS;

/// CPU numbers that the kernel reports are below this, eight times the most that it can be built for.
pub(crate) const MAX_TOLD_CPUS: u32 = 1 << 16;

/// The longest list of CPUs, in bytes: every second CPU that the kernel can be built for.
pub(crate) const LONGEST_LIST: usize = 32 << 10;

/// Parses a list such as `0-3,8` or `0-14:2`, of numbers below `bound`, which also bounds the memory. `None`: it is
/// not such a list.
///
/// ```
/// use l4lb::outside::cpu_list;
///
/// assert_eq!(cpu_list("0-2,8", 1024), Some([0, 1, 2, 8].into()));
/// assert_eq!(cpu_list("0-4294967295", 1024), None);
/// ```
pub fn cpu_list(text: &str, bound: u32) -> Option<BTreeSet<u32>> {
    if text.len() > LONGEST_LIST {
        return None;
    }
    let mut listed = vec![false; usize::try_from(bound).ok()?];
    for item in text.split(',').filter(|_| !text.is_empty()) {
        let (range, _stride) = item.split_once(':').unwrap_or((item, ""));
        // Check the bound before expanding a range.
        if !range.split('-').all(|number| number.parse::<u32>().is_ok_and(|n| n < bound)) {
            return None;
        }
        for cpu in cpulist::parse(item).ok()? {
            *listed.get_mut(usize::try_from(cpu).ok()?)? = true;
        }
    }
    Some((0..bound).zip(listed).filter(|(_, is_listed)| *is_listed).map(|(cpu, _)| cpu).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::quote;

    #[test]
    fn lists_are_bounded() {
        let list = |text| cpu_list(text, 1024).map(|cpus| cpus.into_iter().collect::<Vec<_>>());
        assert_eq!(list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(list("8,0-4:2,8"), Some(vec![0, 2, 4, 8]));
        assert_eq!(list("1023"), Some(vec![1023]));
        assert_eq!(list("0-1023").map(|cpus| cpus.len()), Some(1024));
        assert_eq!(list(""), Some(Vec::new()), "as the kernel has it");
        let many = "0-1023,".repeat(10_000);
        for wrong in [
            "0-4294967295",
            "4294967295",
            "0-1024",
            "1024",
            "0-4294967295:4294967295",
            "0-1:0",
            "-1",
            "3-",
            "3-1",
            "0-3-5",
            "a",
            "0x1",
            "1,,2",
            ",",
            " 1",
            "0--1",
            "99999999999999999999",
            &many,
        ] {
            assert_eq!(list(wrong), None, "{}", quote(wrong));
        }
    }
}
