//! What comes from outside is bounded: how large a file is read, how long it may take to come, how many numbers a
//! list stands for, and how much of a text a message repeats. docs/limits.md has all bounds.

use std::collections::BTreeSet;
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

use crate::abi::consts;

/// The most characters of somebody else's text that a message repeats.
pub const MOST_QUOTED: usize = 200;

/// The most characters of a message.
pub const MOST_OF_MESSAGE: usize = 1200;

/// The largest file of a configuration or of packet tests, in bytes: ten times what the limits of its lists take.
pub const MAX_FILE: u64 = 64 << 20;

/// How long such a file may take to come, where it is a pipe or a terminal.
pub const TIME_TO_READ: Duration = Duration::from_secs(60);

/// CPUs that are asked for are numbered below this.
pub const MAX_CPUS: u32 = consts::MAX_CPUS;

/// CPUs that the kernel tells of are numbered below this, which is eight times what it can be built for.
pub(crate) const MAX_TOLD_CPUS: u32 = 1 << 16;

/// The longest list of CPUs, in bytes: every second one of those that the kernel can be built for.
const LONGEST_LIST: usize = 32 << 10;

/// The most of a file in sysfs or procfs that is read, in bytes.
const MAX_SYSTEM_FILE: u64 = 4 << 20;

/// The most of a table of sockets in procfs that is read, in bytes: some 400000 sockets.
const MAX_SOCKETS: u64 = 64 << 20;

/// Somebody else's text, fit for one line of a message: control characters, and those that turn the direction of
/// writing, as `\u{1b}`; and no more than [`MOST_QUOTED`] characters.
///
/// ```
/// assert_eq!(l4lb::outside::quote("eth0\n\u{1b}[2J"), "eth0\\n\\u{1b}[2J");
/// assert!(l4lb::outside::quote(&"x".repeat(100_000)).len() < 250);
/// ```
pub fn quote(text: &str) -> String {
    cut(text, MOST_QUOTED, 0)
}

/// A message that may repeat what others wrote: as [`quote`], with more room. Of one that is too long, the end
/// stays as well, which says what to do.
pub fn message(text: &str) -> String {
    cut(text, MOST_OF_MESSAGE * 2 / 3, MOST_OF_MESSAGE / 3)
}

/// Text of several lines, fit for a log: as [`quote`], but whole, and ends of lines and tabs stay.
pub(crate) fn lines(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split('\t').map(printable).collect::<Vec<_>>().join("\t"))
        .collect();
    lines.join("\n")
}

/// The first and the last characters of a text, or all, if it has no more.
fn cut(text: &str, first: usize, last: usize) -> String {
    let begun = text.char_indices().nth(first);
    let Some((end, _)) = begun.filter(|_| text.chars().nth(first + last).is_some()) else {
        return printable(text);
    };
    let rest = text.char_indices().rev().take(last).last().map_or("", |(at, _)| &text[at..]);
    format!("{}…{}", printable(&text[..end]), printable(rest))
}

fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        // Characters that show nothing, or turn what is around them.
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// A file, a pipe or a device, of which nothing is waited for beyond a time.
#[derive(Debug)]
pub struct Input {
    file: File,
    until: Instant,
}

impl Input {
    /// Opens one, without waiting for somebody to write to a pipe.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
        if file.metadata()?.is_dir() {
            return Err(nix::errno::Errno::EISDIR.into());
        }
        Ok(Self { file, until: Instant::now() + TIME_TO_READ })
    }

    /// Waits until there is something, or nothing will come any more.
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
    let too_large = || io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20));
    let input = Input::open(path)?;
    if input.file.metadata()?.len() > MAX_FILE {
        return Err(too_large());
    }
    let mut text = Vec::new();
    input.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(too_large());
    }
    decode(text).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
}

/// The byte order marks of encodings other than UTF-8. UTF-32's begin with UTF-16's, or with zeros.
const OTHER_MARKS: [(&[u8], &str); 4] = [
    (&[0xff, 0xfe, 0, 0], "UTF-32LE"),
    (&[0, 0, 0xfe, 0xff], "UTF-32BE"),
    (&[0xff, 0xfe], "UTF-16LE"),
    (&[0xfe, 0xff], "UTF-16BE"),
];

/// Text without the byte order mark that some editors put in front.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// UTF-8 text without its byte order mark; an error is what to say of it.
fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let marked = OTHER_MARKS.iter().find(|(mark, _)| bytes.starts_with(mark));
    // Without a mark: what such files begin with is ASCII, and half of UTF-16 is zeros then.
    let unmarked = match (bytes.first(), bytes.get(1)) {
        (Some(0), Some(1..)) => Some("UTF-16BE"),
        (Some(1..), Some(0)) => Some("UTF-16LE"),
        _ => None,
    };
    if let Some(encoding) = marked.map(|(_, encoding)| *encoding).or(unmarked) {
        return Err(format!(
            "it is {encoding} text; save it as UTF-8: iconv -f {encoding} -t UTF-8"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|wrong| {
        let at = wrong.utf8_error().valid_up_to();
        let before = &wrong.as_bytes()[..at];
        let line = before.split(|byte| *byte == b'\n').count();
        format!("it is not UTF-8 text: line {line} has a byte that no UTF-8 text has there")
    })?;
    Ok(match without_mark(&text) {
        bare if bare.len() < text.len() => bare.to_owned(),
        _ => text,
    })
}

/// Reads a table of sockets in procfs, which is long where there are many connections.
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

/// A list such as `0-3,8` or `0-14:2`, of numbers below `bound`, which is what it takes of memory at most; `None`:
/// it is none.
///
/// ```
/// use l4lb::outside::cpu_list;
///
/// assert_eq!(cpu_list("0-2,8", 1024), Some([0, 1, 2, 8].into()));
/// assert_eq!(cpu_list("0-4294967295", 1024), None);
/// ```
pub fn cpu_list(text: &str, bound: u32) -> Option<BTreeSet<u32>> {
    if text.len() > LONGEST_LIST {
        return None;
    }
    let mut listed = vec![false; usize::try_from(bound).ok()?];
    for item in text.split(',').filter(|_| !text.is_empty()) {
        let (range, _stride) = item.split_once(':').unwrap_or((item, ""));
        // Before a range is written out.
        if !range.split('-').all(|number| number.parse::<u32>().is_ok_and(|n| n < bound)) {
            return None;
        }
        for cpu in cpulist::parse(item).ok()? {
            *listed.get_mut(usize::try_from(cpu).ok()?)? = true;
        }
    }
    Some((0..bound).zip(listed).filter(|(_, is_listed)| *is_listed).map(|(cpu, _)| cpu).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn messages_are_short_and_printable() {
        assert_eq!(quote("tcp://10.200.1.1:80 – ä"), "tcp://10.200.1.1:80 – ä");
        assert_eq!(quote("a\0b\r\u{202e}"), "a\\u{0}b\\r\\u{202e}");
        let long = format!("'{}' is wrong; do this", "\u{1b}".repeat(100_000));
        for text in [quote(&long), message(&long)] {
            assert!(text.len() < 10_000 && !text.contains('\u{1b}'));
        }
        assert!(message(&long).ends_with("' is wrong; do this"));
        let fits = "ü".repeat(MOST_OF_MESSAGE);
        assert_eq!(message(&fits), fits);
        assert_eq!(message(&format!("{fits}ü")).chars().count(), MOST_OF_MESSAGE + 1);
    }

    #[test]
    fn logs_keep_their_lines() {
        assert_eq!(lines("a\tb\n\u{1b}[2J\0"), "a\tb\n\\u{1b}[2J\\u{0}");
    }

    /// What docs/limits.md says is so.
    #[test]
    fn documentation_tells_the_bounds() {
        let text = include_str!("../docs/limits.md").replace('\n', " ");
        for said in [
            format!("no more than {MOST_QUOTED} characters"),
            format!("no more than {MOST_OF_MESSAGE} itself"),
            format!("of numbers to {}, {} KiB", MAX_CPUS - 1, LONGEST_LIST >> 10),
            format!("| {} MiB, UTF-8;", MAX_FILE >> 20),
            format!("come within {} s", TIME_TO_READ.as_secs()),
            format!("| {} MiB |", MAX_SYSTEM_FILE >> 20),
            format!("listens | {} MiB each", MAX_SOCKETS >> 20),
            format!("| CPUs to {}; those over {}", MAX_TOLD_CPUS - 1, consts::MAX_CPUS - 1),
            format!("| `--snaplen` | 1 to {} bytes |", consts::DUMP_MAX_SNAPLEN),
            format!("slots of `chain` | 1 to {} |", consts::CHAIN_SLOTS - 1),
            format!("| `--weight` | 0 to {} |", crate::config::MAX_WEIGHT),
            format!("(default {})", crate::instance::DEFAULT_LOCK_TIMEOUT.as_secs()),
            format!("`connection_table.entries` | 1 to {} |", crate::config::MAX_TABLE_ENTRIES),
        ] {
            assert!(text.contains(&said), "{said}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        let list = |text| cpu_list(text, 1024).map(|cpus| cpus.into_iter().collect::<Vec<_>>());
        assert_eq!(list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(list("8,0-4:2,8"), Some(vec![0, 2, 4, 8]));
        assert_eq!(list("1023"), Some(vec![1023]));
        assert_eq!(list("0-1023").map(|cpus| cpus.len()), Some(1024));
        assert_eq!(list(""), Some(Vec::new()), "as the kernel has it");
        let many = "0-1023,".repeat(10_000);
        for wrong in [
            "0-4294967295",
            "4294967295",
            "0-1024",
            "1024",
            "0-4294967295:4294967295",
            "0-1:0",
            "-1",
            "3-",
            "3-1",
            "0-3-5",
            "a",
            "0x1",
            "1,,2",
            ",",
            " 1",
            "0--1",
            "99999999999999999999",
            &many,
        ] {
            assert_eq!(list(wrong), None, "{}", quote(wrong));
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

    /// One that comes in pieces is waited for, and one that nobody writes is not waited for in opening it.
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
