//! Where packets are captured.

/// Where packets are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Points {
    /// As they came in, before any other program of the chain has seen them.
    #[default]
    Entry,
    /// As they leave the balancer, with what it decided.
    Exit,
    /// Both: a packet that passes both is there twice.
    Both,
}

impl Points {
    /// Whether at entry.
    pub fn entry(self) -> bool {
        self != Self::Exit
    }

    /// Whether at exit.
    pub fn exit(self) -> bool {
        self != Self::Entry
    }
}
