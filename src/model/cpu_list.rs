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
    let mut listed = BTreeSet::new();
    for item in text.split(',').filter(|_| !text.is_empty()) {
        listed.extend(cpu_range(item, bound)?);
    }
    Some(listed)
}

/// `3`, `0-3` or `0-14:2`.
fn cpu_range(item: &str, bound: u32) -> Option<impl Iterator<Item = u32>> {
    let (range, stride) = match item.split_once(':') {
        Some((range, stride)) => (range, Some(number(stride)?)),
        None => (item, None),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    // A stride is one of a range. Check the bound before expanding that.
    let strides_nothing = stride.is_some() && !range.contains('-');
    if first > last || last >= bound || strides_nothing {
        return None;
    }
    let step = usize::try_from(stride.unwrap_or(1)).ok().filter(|step| *step > 0)?;
    Some((first..=last).step_by(step))
}

/// Digits alone: `str::parse` takes a `+`, too.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A list of these CPUs in ascending order, such as `0-2,4,5`: three and more in a row are a range.
pub(crate) fn write_cpu_list(cpus: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let words = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(",")
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
            "+1",
            "0-+1",
            "0-1:+1",
            "0-3:",
            "0-3:2:1",
            "2:1",
            "99999999999999999999",
            &many,
        ] {
            assert_eq!(list(wrong), None, "{}", quote(wrong));
        }
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        for text in ["", "7", "0,1", "0-2,7", "0,2,4-1023"] {
            let cpus = cpu_list(text, 1024).unwrap();
            assert_eq!(write_cpu_list(&cpus), text);
        }
        assert_eq!(write_cpu_list(&[u32::MAX, u32::MAX - 1].into()), "4294967294,4294967295");
    }
}
