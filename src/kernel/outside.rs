//! Bounds for input: the size of a file, and the time to read it. The bounds of quoted text are in `model::text`,
//! those of lists of CPUs in `model::cpu_list`. docs/limits.md has all bounds.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;

pub use crate::model::cpu_list::MAX_CPUS;
pub use crate::model::cpu_list::cpu_list;
pub use crate::model::text::MOST_OF_MESSAGE;
pub use crate::model::text::MOST_QUOTED;
use crate::model::text::decode;
pub use crate::model::text::message;
pub use crate::model::text::quote;

/// The largest file of a configuration or of packet tests, in bytes: ten times the size of a file with the longest
/// possible lists.
pub const MAX_FILE: u64 = 64 << 20;

/// How long reading such a file may take, if it is a pipe or a terminal.
pub const TIME_TO_READ: Duration = Duration::from_secs(60);

/// The most bytes that are read of a file in sysfs or procfs.
const MAX_SYSTEM_FILE: u64 = 4 << 20;

/// The most bytes that are read of a table of sockets in procfs: some 400000 sockets.
const MAX_SOCKETS: u64 = 64 << 20;

/// A file, a pipe or a device that is read with a deadline.
#[derive(Debug)]
pub struct Input {
    file: File,
    until: Instant,
}

impl Input {
    /// Opens it, without waiting for a writer of a pipe.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
        if file.metadata()?.is_dir() {
            return Err(nix::errno::Errno::EISDIR.into());
        }
        Ok(Self { file, until: Instant::now() + TIME_TO_READ })
    }

    /// Standard input.
    pub fn stdin() -> io::Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, until: Instant::now() + TIME_TO_READ })
    }

    /// Waits until there is data, or the end.
    fn wait(&self) -> io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, timeout) {
            Ok(0) => {
                let seconds = TIME_TO_READ.as_secs();
                let what = format!("it has not come within {seconds} s; who is to write it?");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.wait().and_then(|()| self.file.read(buffer)) {
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted]
                        .contains(&error.kind()) => {}
                done => return done,
            }
        }
    }
}

/// Reads a file of text, of [`MAX_FILE`] at most.
pub fn read_text(path: &Path) -> io::Result<String> {
    read_text_from(Input::open(path)?, MAX_FILE)
}

/// Reads text, of `most` bytes at most, which are whole MiB.
pub fn read_text_from(input: Input, most: u64) -> io::Result<String> {
    let too_large = || io::Error::other(format!("it is larger than {} MiB", most >> 20));
    if input.file.metadata()?.len() > most {
        return Err(too_large());
    }
    let mut text = Vec::new();
    input.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(too_large());
    }
    decode(text).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Reads a table of sockets in procfs. It is long if there are many connections.
pub(crate) fn read_sockets(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(&mut File::open(path)?, MAX_SOCKETS)
}

fn read_at_most(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// Reads a file of sysfs or procfs.
pub(crate) fn read_system(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SYSTEM_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::model::abi::consts;
    use crate::model::config;
    use crate::model::cpu_list;

    /// docs/limits.md tells the bounds that are in force.
    #[test]
    fn documentation_tells_the_bounds() {
        let text = include_str!("../../docs/limits.md").replace('\n', " ");
        for said in [
            format!("no more than {MOST_QUOTED} characters"),
            format!("no more than {MOST_OF_MESSAGE} itself"),
            format!("of numbers to {}, {} KiB", MAX_CPUS - 1, cpu_list::LONGEST_LIST >> 10),
            format!("| {} MiB, UTF-8;", MAX_FILE >> 20),
            format!("come within {} s", TIME_TO_READ.as_secs()),
            format!("| {} MiB |", MAX_SYSTEM_FILE >> 20),
            format!("listens | {} MiB each", MAX_SOCKETS >> 20),
            format!(
                "| CPUs to {}; those over {}",
                cpu_list::MAX_TOLD_CPUS - 1,
                consts::MAX_CPUS - 1
            ),
            format!("| `--snaplen` | 1 to {} bytes |", consts::CAPTURE_MAX_SNAPLEN),
            format!("slots of `chain` | 1 to {} |", consts::CHAIN_SLOTS - 1),
            format!("| `--weight` | 0 to {} |", config::MAX_WEIGHT),
            format!("`connection_table.entries` | 1 to {} |", config::MAX_TABLE_ENTRIES),
        ] {
            assert!(text.contains(&said), "{said}");
        }
    }

    #[test]
    fn tables_of_sockets_are_bounded() {
        let error = read_at_most(&mut io::repeat(b'x'), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1 MiB");
        assert_eq!(read_at_most(&mut &b"abc"[..], 3).unwrap(), b"abc");
    }

    #[test]
    fn files_are_bounded() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[[vips]]").unwrap();
        assert_eq!(read_text(file.path()).unwrap(), "[[vips]]");
        file.as_file().set_len(MAX_FILE + 1).unwrap();
        assert!(read_text(file.path()).unwrap_err().to_string().contains("larger than 64 MiB"));
        assert!(read_text(Path::new("/dev/zero")).unwrap_err().to_string().contains("larger than"));
        assert_eq!(read_text(Path::new("/dev/null")).unwrap(), "");
        assert!(read_text(Path::new("/")).is_err());
        file.as_file().set_len(0).unwrap();
        for (bytes, says) in [
            (&b"\xff"[..], "not UTF-8 text: line 1 has"),
            (b"[[vips]]\n# Stra\xdfe", "not UTF-8 text: line 2 has"),
            (b"\xff\xfe[\0[\0", "UTF-16LE text; save it as UTF-8: iconv -f UTF-16LE -t"),
            (b"\xfe\xff\0[\0[", "UTF-16BE text"),
            (b"\xff\xfe\0\0[\0\0\0", "UTF-32LE text"),
            (b"\0\0\xfe\xff\0\0\0[", "UTF-32BE text"),
            (b"[\0[\0", "UTF-16LE text; save it as UTF-8"),
            (b"\0[\0[", "UTF-16BE text; save it as UTF-8"),
        ] {
            std::fs::write(file.path(), bytes).unwrap();
            let error = read_text(file.path()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        std::fs::write(file.path(), b"\xef\xbb\xbf[[vips]]").unwrap();
        assert_eq!(read_text(file.path()).unwrap(), "[[vips]]");
    }

    /// Reading waits for data that comes in pieces. Opening does not wait for a writer.
    #[test]
    fn pipes_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut input = Input::open(&path).unwrap();
        input.until = Instant::now();
        let error = input.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let to = path.clone();
        let writer = std::thread::spawn(move || {
            let mut pipe = File::options().write(true).open(to).unwrap();
            for _ in 0..20 {
                pipe.write_all(b"0123456789").unwrap();
                std::thread::yield_now();
            }
        });
        input.until = Instant::now() + TIME_TO_READ;
        let mut text = String::new();
        input.read_to_string(&mut text).unwrap();
        writer.join().unwrap();
        assert_eq!(text, "0123456789".repeat(20));
    }
}
