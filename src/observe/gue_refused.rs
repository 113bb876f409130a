//! Reals that do not take GUE: their kernels answer "port unreachable".

use std::fmt;

use serde::Serialize;

use crate::observe::rates::Rates;
use crate::observe::rates::whole;

/// The reason with which such answers end.
pub(crate) const REASON: &str = "gue_refused";

/// What to do about it.
const FIX: &str = "'lbctl dump --at exit --reason gue_refused' shows which reals, and the port; there: 'lbctl decap attach', or \
    'ip fou add' for that port; or give it the port of gue_port in [packets]; or say another encapsulation for the real";

/// Hosts that get GUE from this balancer answer that nothing takes it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GueRefused {
    /// Such answers a second. A host that runs Linux gives one a second at most, however much it refuses.
    pub answers: u64,
}

impl GueRefused {
    /// What happened between two readings.
    pub(crate) fn of(rates: &Rates) -> Option<Self> {
        let answers = rates.reason(REASON);
        // There was at least one, if there is a rate.
        (answers > 0.0).then(|| Self { answers: whole(answers).max(1) })
    }

    /// What to do about it.
    pub(crate) fn fix() -> &'static str {
        FIX
    }
}

impl fmt::Display for GueRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answers } = self;
        write!(
            f,
            "reals answer \"port unreachable\" to packets that go by gue ({answers} such answers a second): nothing takes \
             GUE there, or not at that port"
        )
    }
}
