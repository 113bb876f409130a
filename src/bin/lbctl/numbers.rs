//! Numbers for people: three digits and a prefix.

/// `0.4`, `12`, `1.23 k`, `98.4 M`.
pub(crate) fn si(value: f64) -> String {
    let mut value = value;
    let mut prefixes = ["", " k", " M", " G", " T", " P"].into_iter();
    let mut prefix = prefixes.next().unwrap_or_default();
    // What rounds to 1000 is written with the next prefix.
    while value >= 999.5 {
        let Some(next) = prefixes.next() else { break };
        (value, prefix) = (value / 1000.0, next);
    }
    let decimals = match value {
        _ if value >= 99.95 || (prefix.is_empty() && value.fract() == 0.0) => 0,
        _ if value >= 9.995 || prefix.is_empty() => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{prefix}")
}

/// The same with its unit: `12 packets/s`, `1.23 kbit/s`.
pub(crate) fn si_unit(value: f64, unit: &str) -> String {
    let text = si(value);
    let gap = if text.contains(' ') { "" } else { " " };
    text + gap + unit
}

#[cfg(test)]
mod tests {
    use super::si;
    use super::si_unit;

    #[test]
    fn a_prefix_belongs_to_its_unit() {
        assert_eq!(si_unit(999.0, "bit/s"), "999 bit/s");
        assert_eq!(si_unit(106_000.0, "bit/s"), "106 kbit/s");
    }

    #[test]
    fn three_digits_and_a_prefix() {
        for (value, text) in [
            (0.0, "0"),
            (0.44, "0.4"),
            (12.0, "12"),
            (12.34, "12.3"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (1234.0, "1.23 k"),
            (98_400_000.0, "98.4 M"),
            (123_000_000_000.0, "123 G"),
            (1e20, "100000 P"),
        ] {
            assert_eq!(si(value), text, "{value}");
        }
    }
}
