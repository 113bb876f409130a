//! No detour while alone: the links of interfaces hold the only program of a chain themselves. Packets then come to it
//! without the root program and a tail call.
//!
//! The chain's maps are always written as if the root program ran, so that both ways lead to the same programs. Links
//! get the root program before the chain changes, and the only program after that. So if a command is killed in
//! between, packets take the detour, and nothing else differs; the next command that changes something ends it.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use crate::instance::Instance;
use crate::instance::chain::slots::Chain;
use crate::instance::linked::pinned_link;
use crate::instance::links::interface_name;
use crate::instance::own_programs::OwnProgram;
use crate::instance::pin_error;
use crate::kernel::bpf;
use crate::kernel::bpf::LinkInfo;
use crate::kernel::host::Files;
use crate::model::error::Error;
use crate::model::error::Result;

impl Chain {
    /// Leads all packets by way of the root program. Every write to the chain calls this first.
    pub(super) fn leave_direct(&self) -> Result<()> {
        if !self.through_root.get() {
            hold(self.instance(), self.root(), |_| true)?;
            self.through_root.set(true);
        }
        Ok(())
    }

    /// Lets the links hold the program that they should hold now. Every change of the chain ends with this.
    ///
    /// If it fails, packets take the detour, so that is no error.
    pub(crate) fn settle_links(&self) {
        if let Err(error) = self.try_settle_links() {
            tracing::warn!(
                "packets take the detour by way of the root program, which costs each some nanoseconds: {error}"
            );
        }
    }

    fn try_settle_links(&self) -> Result<()> {
        let Some((_, program)) = self.only()? else { return self.leave_direct() };
        self.through_root.set(false);
        hold(self.instance(), program.as_fd(), |ifindex| !stops_to_change(ifindex))
    }

    /// Name and program, if links may hold the program themselves: it is alone in the chain, hands packets on by the
    /// chain, and `lbctl` has loaded it. What somebody else has loaded may be on an interface by other means, too.
    pub(crate) fn only(&self) -> Result<Option<(String, OwnedFd)>> {
        let slots = self.filled()?;
        let mut filled = slots.iter().flatten();
        let (Some(only), None) = (filled.next(), filled.next()) else { return Ok(None) };
        let Some(name) = self.names()?.remove(&only.id) else { return Ok(None) };
        let is_loaded_here = match OwnProgram::named(&name) {
            Some(own) => own.needs_chain(),
            None => self.instance().object(&name).exists(),
        };
        if only.place.is_none() || !is_loaded_here || !self.is_settled()? || !self.leads(&slots)? {
            return Ok(None);
        }
        let program = self.program(&name)?;
        Ok(Some((name, program)))
    }
}

/// Ends the detour that a killed command has left, if no program but one is in the chain. The caller has the lock.
pub(crate) fn settle(instance: &Instance) -> Result<()> {
    Chain::open_existing(instance)?.map_or(Ok(()), |chain| chain.try_settle_links())
}

/// The instance's links that are on an interface, in whatever network namespace, and their pins.
fn attached(instance: &Instance) -> Result<Vec<(PathBuf, OwnedFd, LinkInfo)>> {
    let mut attached = Vec::new();
    for pin in instance.links()? {
        let path = instance.link(&pin);
        let failed = |source| pin_error("open", &path, source);
        if let Some(link) = pinned_link(&path).map_err(failed)? {
            let info = bpf::link_info(link.as_fd()).map_err(failed)?;
            if info.ifindex != 0 {
                attached.push((path, link, info));
            }
        }
    }
    Ok(attached)
}

/// Drivers that stop the card whenever its program changes, though it has one before and after. Packets are lost then,
/// so their interfaces keep the root program.
const STOP_TO_CHANGE: [&str; 2] = ["nicvf", "qede"];

/// Whether an interface of this network namespace has such a driver.
pub(crate) fn stops_to_change(ifindex: u32) -> bool {
    let of = |name: String| Files::host().interface(&name).join("device/driver").read_link().ok();
    let driver = interface_name(ifindex).and_then(of);
    let driver = driver.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
    driver.is_some_and(|driver| STOP_TO_CHANGE.contains(&driver))
}

/// Puts a program into all links that hold another one, if their interfaces, by index, are to have it.
fn hold(instance: &Instance, program: BorrowedFd<'_>, is_for: impl Fn(u32) -> bool) -> Result<()> {
    let wanted = bpf::program_info(program)
        .map_err(|source| Error::Host { operation: "ask the kernel about a program", source })?;
    for (path, link, info) in attached(instance)? {
        if info.program == wanted.id || !is_for(info.ifindex) {
            continue;
        }
        match bpf::link_update(link.as_fd(), program) {
            // The interface has gone since.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOLINK) => {}
            done => done.map_err(|source| pin_error(PUT, &path, source))?,
        }
    }
    Ok(())
}

const PUT: &str = "put another program into the link";
