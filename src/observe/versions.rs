//! What this build is made of, and the kernel that it runs on: what a report of a fault needs.

use std::env::consts::ARCH;
use std::fmt;

use serde::Serialize;

use crate::instance::kernel_release;
use crate::kernel::libbpf;
use crate::model::abi::consts;
use crate::model::versions::JSON_FORMAT;

/// What this build is made of, and the kernel that it runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Versions {
    /// The version of l4lb.
    pub version: &'static str,
    /// The commit that it was built from, if the build knew it (`LB_COMMIT`).
    pub commit: Option<&'static str>,
    /// The version of the maps' layout: maps of another one are refused.
    pub abi: u32,
    /// [`JSON_FORMAT`].
    pub json_format: u32,
    /// The features that are built in, by name.
    pub features: Vec<&'static str>,
    /// The version of libbpf.
    pub libbpf: String,
    /// What compiled the BPF programs.
    pub clang: &'static str,
    /// The running kernel, as `uname -r` prints it; `None`: it could not be asked for.
    pub kernel: Option<String>,
    /// The architecture that it was built for.
    pub architecture: &'static str,
    /// The licence, as an SPDX expression.
    pub license: &'static str,
}

/// What this build is made of, and the kernel that it runs on.
pub fn versions() -> Versions {
    let features = [
        ("agent", cfg!(feature = "agent")),
        ("capture", cfg!(feature = "capture")),
        ("cli", cfg!(feature = "cli")),
        ("metrics", cfg!(feature = "metrics")),
    ];
    Versions {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("LB_COMMIT").filter(|commit| !commit.is_empty()),
        abi: consts::ABI_VERSION,
        json_format: JSON_FORMAT,
        features: features.into_iter().filter_map(|(name, is_on)| is_on.then_some(name)).collect(),
        libbpf: libbpf::version(),
        clang: env!("LB_CLANG_VERSION"),
        kernel: kernel_release().ok(),
        architecture: ARCH,
        license: env!("CARGO_PKG_LICENSE"),
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNKNOWN: &str = "not known";
        writeln!(f, "lbctl {}", self.version)?;
        writeln!(f, "commit        {}", self.commit.unwrap_or(UNKNOWN))?;
        writeln!(f, "ABI           {}", self.abi)?;
        writeln!(f, "JSON format   {}", self.json_format)?;
        writeln!(f, "features      {}", self.features.join(", "))?;
        writeln!(f, "libbpf        {}", self.libbpf)?;
        writeln!(f, "clang         {}", self.clang)?;
        writeln!(f, "kernel        {}", self.kernel.as_deref().unwrap_or(UNKNOWN))?;
        writeln!(f, "architecture  {}", self.architecture)?;
        writeln!(f, "licence       {}", self.license)
    }
}
