//! `SIOCETHTOOL`: the statistics that a driver has under its own names. Netlink only has standard ones.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::socket;

// linux/ethtool.h
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const SS_STATS: u32 = 1;
const NAME_LEN: usize = 32;

/// Spare room for statistics: kernels before 6.18 write all statistics, however many the caller asked for, and a
/// driver may get more queues in between.
const SLACK: usize = 16 * 1024;

/// The statistics of an interface in the calling thread's network namespace, in the driver's order. The list may be
/// empty.
pub(crate) fn statistics(interface: &str) -> io::Result<Vec<(String, u64)>> {
    let asking = Asking::new(interface)?;
    // struct ethtool_sset_info: cmd, reserved, mask, count of each set in the mask.
    let mut info = vec![u64::from(GSSET_INFO), 1 << SS_STATS, 0];
    asking.ask(&mut info)?;
    if info[1] == 0 {
        return Ok(Vec::new());
    }
    let count = low_word(info[2]);
    let room = count as usize + SLACK;
    // struct ethtool_gstrings: cmd, set, len, then the names, which therefore begin in the middle of a word.
    let mut names = vec![0; 2 + room * NAME_LEN / size_of::<u64>()];
    names[0] = u64::from(SS_STATS) << 32 | u64::from(GSTRINGS);
    names[1] = count.into();
    asking.ask(&mut names)?;
    // struct ethtool_stats: cmd, count, then the values.
    let mut values = vec![0; 1 + room];
    values[0] = u64::from(count) << 32 | u64::from(GSTATS);
    asking.ask(&mut values)?;
    if low_word(names[1]) != count || high_word(values[0]) != count {
        return Err(io::Error::other("the driver changed its statistics meanwhile"));
    }
    let bytes: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).skip(12).collect();
    let names = bytes.chunks_exact(NAME_LEN).map(|name| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Ok(names.zip(values.into_iter().skip(1)).take(count as usize).collect())
}

/// The half of a word that comes first in memory, on the little-endian machines that l4lb supports.
#[expect(clippy::cast_possible_truncation, reason = "the half that is asked for")]
fn low_word(word: u64) -> u32 {
    word as u32
}

fn high_word(word: u64) -> u32 {
    low_word(word >> 32)
}

/// Asks the driver of an interface.
struct Asking {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Asking {
    fn new(interface: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        Ok(Self { socket, name })
    }

    /// `buffer` begins with the command and receives the answer. It has room for more than the kernel writes.
    fn ask(&self, buffer: &mut [u64]) -> io::Result<()> {
        let request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: buffer.as_mut_ptr().cast() },
        };
        // SAFETY: `request` lives until the call returns, and so does the buffer that it points to; for the
        // commands above the kernel reads and writes the structs that were laid out there.
        let done =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw const request) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
