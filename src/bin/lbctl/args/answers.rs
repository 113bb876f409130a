//! What a VIP itself answers, on the command line.

use clap::ValueEnum;

/// `l4lb::OtherPorts`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OtherPorts {
    Pass,
    Drop,
    Reject,
}

impl From<OtherPorts> for l4lb::OtherPorts {
    fn from(choice: OtherPorts) -> Self {
        match choice {
            OtherPorts::Pass => Self::Pass,
            OtherPorts::Drop => Self::Drop,
            OtherPorts::Reject => Self::Reject,
        }
    }
}

/// `l4lb::NoReal`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NoReal {
    Drop,
    Reject,
}

impl From<NoReal> for l4lb::NoReal {
    fn from(choice: NoReal) -> Self {
        match choice {
            NoReal::Drop => Self::Drop,
            NoReal::Reject => Self::Reject,
        }
    }
}

/// `l4lb::Echo`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Echo {
    Always,
    WhenUsable,
    Never,
}

impl From<Echo> for l4lb::Echo {
    fn from(choice: Echo) -> Self {
        match choice {
            Echo::Always => Self::Always,
            Echo::WhenUsable => Self::WhenUsable,
            Echo::Never => Self::Never,
        }
    }
}
