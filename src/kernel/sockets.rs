//! The sockets that listen on this host, read from procfs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use procfs_core::ExplicitSystemInfo;
use procfs_core::FromReadSI;
use procfs_core::net::TcpNetEntries;
use procfs_core::net::TcpState;
use procfs_core::net::UdpNetEntries;
use procfs_core::net::UdpState;

use crate::kernel::host::text;
use crate::kernel::outside;
use crate::kernel::outside::quote;
use crate::model::address::Protocol;
use crate::model::error::Error;
use crate::model::error::Result;

/// The listening sockets of this network namespace.
pub(crate) fn listeners(protocol: Protocol) -> Result<BTreeSet<SocketAddr>> {
    Ok(sockets(protocol)?.into_keys().collect())
}

/// The listening sockets, and the inode of one at each address.
fn sockets(protocol: Protocol) -> Result<BTreeMap<SocketAddr, u64>> {
    // Only the byte order matters to these files.
    let system = ExplicitSystemInfo {
        boot_time_secs: 0,
        ticks_per_second: 0,
        page_size: 0,
        is_little_endian: cfg!(target_endian = "little"),
    };
    let mut found = BTreeMap::new();
    for family in ["", "6"] {
        // `/proc/net` would be the namespace of the process's first thread.
        let path = format!("/proc/thread-self/net/{protocol}{family}");
        // A kernel without IPv6 has no such file.
        if !Path::new(&path).exists() {
            continue;
        }
        let unreadable =
            |source| Error::Host { operation: "list the sockets that listen on this host", source };
        let text = outside::read_sockets(Path::new(&path)).map_err(|error| {
            unreadable(std::io::Error::new(error.kind(), format!("{path}: {error}")))
        })?;
        let text = &text[..];
        let sockets: Result<Vec<_>, _> = match protocol {
            Protocol::Tcp => TcpNetEntries::from_read(text, &system).map(|sockets| {
                let listening = sockets.0.into_iter().filter(|s| s.state == TcpState::Listen);
                listening.map(|socket| (socket.local_address, socket.inode)).collect()
            }),
            Protocol::Udp => UdpNetEntries::from_read(text, &system).map(|sockets| {
                // Connected sockets talk to one peer, and end soon.
                let bound = sockets.0.into_iter().filter(|s| s.state == UdpState::Close);
                bound.map(|socket| (socket.local_address, socket.inode)).collect()
            }),
        };
        let sockets = sockets.map_err(|error| unreadable(std::io::Error::other(error)))?;
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        found.extend(sockets.into_iter().map(|(at, inode)| (canonical(at), inode)));
    }
    Ok(found)
}

/// Who has a listening UDP socket, in words: a program, or the kernel itself.
pub(crate) fn udp_holder(at: SocketAddr) -> String {
    let inode = sockets(Protocol::Udp).ok().and_then(|sockets| sockets.get(&at).copied());
    let holder = inode.and_then(program_with);
    // As a service without CAP_SYS_PTRACE, this process may not look at the files of others.
    let unknown =
        "a program that cannot be seen from here, or the kernel's own fou ('ip fou show')";
    holder.unwrap_or_else(|| unknown.to_owned())
}

/// The name and number of a process that has a socket, if it can be seen.
fn program_with(inode: u64) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|to| to.as_os_str() == &*socket)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|process| process.path()).find_map(|process| {
        let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
        holds(&process).then(|| match text(&process.join("comm")) {
            Some(name) => format!("program {} (process {pid})", quote(&name)),
            None => format!("process {pid}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn who_has_a_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        assert!(listeners(Protocol::Udp).unwrap().contains(&at));
        let holder = udp_holder(at);
        assert!(holder.contains(&format!("(process {})", std::process::id())), "{holder}");
        drop(socket);
        assert!(udp_holder(at).contains("fou"));
    }
}
