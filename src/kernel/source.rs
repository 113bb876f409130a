//! Which source address the kernel gives to packets, and which interface has it.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::UdpSocket;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;

/// Any port will do: nothing is sent.
const PORT: u16 = 9;

/// The source address of packets with a mark to an address. Sends nothing.
pub(crate) fn source_to(to: IpAddr, mark: u32) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    setsockopt(&socket, sockopt::Mark, &mark)?;
    socket.connect((to, PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// The interface that has an IPv4 address.
pub(crate) fn interface_of(address: IpAddr) -> Option<String> {
    let IpAddr::V4(address) = address else { return None };
    let has_it = getifaddrs().ok()?.find(|found| {
        let found = found.address.as_ref().and_then(|found| found.as_sockaddr_in());
        found.is_some_and(|found| found.ip() == address)
    });
    has_it.map(|found| found.interface_name)
}
