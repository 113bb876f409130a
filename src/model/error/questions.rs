//! What others ask about an error.

use super::Error;

impl Error {
    /// Whether it is about one interface. If so, the others can be served.
    pub(crate) fn is_of_interface(&self) -> bool {
        match self {
            Self::Netlink(error) => error.is_of_interface(),
            Self::ForeignProgram { .. }
            | Self::OtherInstance { .. }
            | Self::OtherRoot { .. }
            | Self::OtherNamespace { .. }
            | Self::NativeMode { .. }
            | Self::Attach { .. }
            | Self::InterfaceTable { .. } => true,
            _ => false,
        }
    }

    /// Whether the kernel had not enough memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Map(error) => error.is_out_of_memory(),
            // Libbpf passes the error number only in its messages.
            Self::Load { why, .. } => {
                ["ENOMEM", "Cannot allocate memory"].iter().any(|sign| why.contains(sign))
            }
            _ => false,
        }
    }
}
