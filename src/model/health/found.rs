//! Details of what was found about a real, between the record and people.

use crate::model::abi;

/// The most bytes of a reason that the record keeps.
pub(crate) const REASON_BYTES: usize = size_of::<abi::Reason>();

/// A reason as the record keeps it. A text that is too long is cut off.
pub(crate) fn reason(text: &str) -> abi::Reason {
    let fits = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = fits.take_while(|end| *end <= REASON_BYTES).last().unwrap_or(0);
    let mut bytes = abi::Reason::default();
    for (to, from) in bytes.as_flattened_mut().iter_mut().zip(text[..end].bytes()) {
        *to = from;
    }
    bytes
}

/// The reverse of [`reason`].
pub(crate) fn text(reason: &abi::Reason) -> String {
    let bytes = reason.as_flattened();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_kept() {
        for kept in ["", "HTTP 503", &"x".repeat(REASON_BYTES)] {
            assert_eq!(text(&reason(kept)), kept);
        }
        let long = "ü".repeat(100);
        assert_eq!(text(&reason(&long)), "ü".repeat(REASON_BYTES / 2));
    }
}
