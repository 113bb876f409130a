//! A name for each kind of error, for programs.

use strum::VariantNames;

use super::CaptureError;
use super::ChainError;
use super::CheckError;
use super::ControlApiError;
use super::DecapError;
use super::Error;
use super::FilterError;
use super::NetlinkError;
use super::ServingError;
use super::TracePacketError;
use super::TunnelObstacle;

/// The name of an error of an area: `chain_slot_taken`.
fn of_area<'a>(area: &str, kind: impl Into<&'a str>) -> String {
    format!("{area}_{}", kind.into())
}

impl Error {
    /// The kind of the error: a name that stays the same, whatever the text says. docs/errors.md has them all.
    pub fn kind(&self) -> String {
        match self {
            Self::Check(error) => of_area("check", error),
            Self::Chain(error) => of_area("chain", error),
            Self::ControlApi(error) => of_area("control_api", error),
            Self::Serving(error) => of_area("serving", error),
            Self::Netlink(error) => of_area("netlink", error),
            Self::Tunnel(error) => of_area("tunnel", &**error),
            Self::TracePacket(error) => of_area("trace_packet", error),
            Self::Decap(error) => of_area("decap", error),
            Self::Filter(error) => of_area("filter", error),
            Self::Capture(error) => of_area("capture", error),
            other => <&str>::from(other).to_owned(),
        }
    }

    /// All kinds, in the order of their names.
    pub fn kinds() -> Vec<String> {
        let areas = [
            ("check", CheckError::VARIANTS),
            ("chain", ChainError::VARIANTS),
            ("control_api", ControlApiError::VARIANTS),
            ("serving", ServingError::VARIANTS),
            ("netlink", NetlinkError::VARIANTS),
            ("tunnel", TunnelObstacle::VARIANTS),
            ("trace_packet", TracePacketError::VARIANTS),
            ("decap", DecapError::VARIANTS),
            ("filter", FilterError::VARIANTS),
            ("capture", CaptureError::VARIANTS),
        ];
        let own = Self::VARIANTS.iter().filter(|own| !areas.iter().any(|(area, _)| area == *own));
        let of_areas =
            areas.iter().flat_map(|(area, kinds)| kinds.iter().map(|kind| of_area(area, *kind)));
        let mut kinds: Vec<_> = own.map(|own| (*own).to_owned()).chain(of_areas).collect();
        kinds.sort_unstable();
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name() {
        let kinds = Error::kinds();
        let mut once = kinds.clone();
        once.dedup();
        assert_eq!(kinds, once);
        for kind in &kinds {
            assert!(kind.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        }
        for error in [
            Error::RealIds,
            Error::TablesReplaced,
            ChainError::NoPlace.into(),
            CaptureError::NoReasonLeft.into(),
        ] {
            assert!(kinds.contains(&error.kind()), "{}", error.kind());
        }
        assert_eq!(Error::from(ChainError::NoPlace).kind(), "chain_no_place");
    }
}
