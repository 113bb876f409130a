//! The names of the pins of a chain's programs. A pin's suffix says what a command was doing with the program.

use std::collections::BTreeSet;

use crate::instance::Instance;
use crate::instance::own_programs::ROOT;

/// What a pin's suffix says of its program. Names have no colons, and the bpf filesystem accepts no dots.
pub(crate) const NEXT: &str = ":next";
pub(crate) const GONE: &str = ":gone";

/// The pins of programs, without the root program's.
pub(crate) fn pins(instance: &Instance) -> Vec<String> {
    let entries = std::fs::read_dir(instance.dir().join("prog")).into_iter().flatten().flatten();
    let mut pins: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pin| pin != ROOT)
        .collect();
    pins.sort();
    pins
}

/// The name of a program, from the name of its pin.
pub(crate) fn base(pin: &str) -> &str {
    pin.trim_end_matches(NEXT).trim_end_matches(GONE)
}

/// The names of the instance's programs, except for those that are being removed.
pub(crate) fn programs(instance: &Instance) -> BTreeSet<String> {
    if !instance.program(ROOT).exists() {
        return BTreeSet::new();
    }
    let staying = pins(instance).into_iter().filter(|pin| !pin.ends_with(GONE));
    staying.map(|pin| base(&pin).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::base;

    #[test]
    fn pins_have_names() {
        assert_eq!(["a", "a:next", "a:gone"].map(base), ["a"; 3]);
    }
}
