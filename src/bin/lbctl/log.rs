//! The log on standard error: for people, for programs, or for journald.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::ZonedDateTime;
use l4lb::outside;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tracing::Event;
use tracing::Level;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Global;
use crate::args::LogFormat;
use crate::output;

/// Whether lines on standard error begin with a priority.
static PRIORITIES: OnceLock<bool> = OnceLock::new();

/// Logs to standard error: more or less with `-v`, `-q` or `RUST_LOG`. `stays`: the command goes on until it is ended.
pub(crate) fn init(global: &Global, format: LogFormat, stays: bool) {
    // In 'dump', -v and -q are tcpdump's.
    let filter = filter(global.log_filter(), std::env::var("RUST_LOG").ok().as_deref());
    let lines = match format {
        LogFormat::Auto if stays && global.json => Lines::Json,
        LogFormat::Auto if is_journal() => Lines::Journal,
        LogFormat::Auto | LogFormat::Text => {
            Lines::Text { time: stays && io::stderr().is_terminal() }
        }
        LogFormat::Json => Lines::Json,
        LogFormat::Journal => Lines::Journal,
    };
    let _ = PRIORITIES.set(lines == Lines::Journal);
    let layer = tracing_subscriber::fmt::layer().with_writer(StandardError).event_format(lines);
    tracing_subscriber::registry().with(filter).with(layer).init();
}

/// What is logged: levels by target, as in `warn,l4lb=debug`. There are no spans, so nothing selects by them; a filter that
/// can would add regular expressions to the binary. A `RUST_LOG` that makes no sense is as good as none.
fn filter(asked: Option<&str>, environment: Option<&str>) -> Targets {
    let environment = environment.filter(|filter| !filter.trim().is_empty());
    let filter = asked.or(environment).and_then(|filter| filter.parse().ok());
    filter.unwrap_or_else(|| {
        let own = [("l4lb", Level::INFO), ("lbctl", Level::INFO), ("libbpf", Level::ERROR)];
        Targets::new().with_default(Level::WARN).with_targets(own)
    })
}

/// The log of a command that is run for somebody else: its warnings, as text.
pub(crate) fn for_others() -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_writer(StandardError)
        .event_format(Lines::Text { time: false })
        .finish()
}

/// The prefix of an error that is no line of the log: `error: …`, at the end of a command.
pub(crate) fn error_prefix() -> &'static str {
    if *PRIORITIES.get_or_init(is_journal) { priority(Level::ERROR) } else { "" }
}

/// Whether standard error is a socket of journald: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)).
fn is_journal() -> bool {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(metadata) = stderr.and_then(|stderr| stderr.metadata()) else { return false };
    std::env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// The priority of syslog, as sd-daemon(3) writes it in front of a line.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Text { time: bool },
    Json,
    Journal,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut said = Said::default();
        event.record(&mut said);
        let text = self.format(*metadata.level(), metadata.target(), &said);
        writer.write_str(&text)
    }
}

impl Lines {
    /// A line, or several if the message has several. Text from outside cannot break or lengthen a line. Long messages
    /// for finding faults, such as the verifier's log, are written whole.
    fn format(self, level: Level, target: &str, said: &Said) -> String {
        let whole = level > Level::INFO;
        let cut = |text: &str| if whole { text.to_owned() } else { outside::message(text) };
        let in_words = || {
            let mut message = said.message.clone();
            for (name, value) in &said.fields {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                message.extend([" ", *name, "=", &value]);
            }
            cut(&message)
        };
        match self {
            Self::Json => {
                let fields = said.fields.iter().map(|(name, value)| {
                    let value =
                        value.as_str().map_or_else(|| value.clone(), |text| cut(text).into());
                    ((*name).to_owned(), value)
                });
                let line = json!({
                    "time": Timestamp::now().to_string(),
                    "level": level.as_str().to_ascii_lowercase(),
                    "target": target,
                    "message": cut(&said.message),
                    "fields": fields.collect::<Map<_, _>>(),
                });
                format!("{line}\n")
            }
            // journald takes each line for an entry of its own.
            Self::Journal => {
                let message = in_words();
                let lines = message.lines().map(|line| format!("{}{line}\n", priority(level)));
                lines.collect::<Vec<_>>().concat()
            }
            Self::Text { time: false } => format!("{level:>5} {}\n", in_words()),
            Self::Text { time: true } => {
                let now = ZonedDateTime::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
                format!("{now} {level:>5} {}\n", in_words())
            }
        }
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

/// Standard error: each event in one write. If nobody reads the log, `serve` goes on without it: the logger would panic
/// on an error.
struct StandardError;

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl io::Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = output::complain_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Said {
        Said { message: message.to_owned(), fields: vec![("error", "no \u{1b}[31manswer".into())] }
    }

    #[test]
    fn levels_are_chosen_by_target() {
        let logs = |asked, environment, target, level| {
            filter(asked, environment).would_enable(target, &level)
        };
        for environment in [None, Some(""), Some("l4lb[span{field=1}]=debug"), Some("l4lb=loud")] {
            assert!(logs(None, environment, "l4lb::agent", Level::INFO), "{environment:?}");
            assert!(!logs(None, environment, "l4lb::agent", Level::DEBUG), "{environment:?}");
            assert!(logs(None, environment, "hyper", Level::WARN), "{environment:?}");
            assert!(!logs(None, environment, "libbpf", Level::WARN), "{environment:?}");
        }
        let asked = Some("warn,l4lb=debug");
        assert!(logs(None, asked, "l4lb::agent", Level::DEBUG));
        assert!(!logs(None, asked, "lbctl", Level::INFO));
        // The command line counts for more.
        assert!(!logs(Some("error"), asked, "l4lb", Level::WARN));
        assert!(logs(None, Some("debug"), "hyper", Level::DEBUG));
        assert!(!logs(None, Some("off"), "l4lb", Level::ERROR));
    }

    #[test]
    fn a_message_is_one_line_whatever_it_says() {
        let said = said("bad\nERROR forged");
        assert_eq!(
            Lines::Text { time: false }.format(Level::WARN, "l4lb", &said),
            " WARN bad\\nERROR forged error=no \\u{1b}[31manswer\n"
        );
        assert_eq!(
            Lines::Journal.format(Level::WARN, "l4lb", &said),
            "<4>bad\\nERROR forged error=no \\u{1b}[31manswer\n"
        );
        let line = Lines::Json.format(Level::WARN, "l4lb::agent", &said);
        let object: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let time = object["time"].as_str().expect("a time");
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        assert_eq!((&object["level"], &object["target"]), (&"warn".into(), &"l4lb::agent".into()));
        assert_eq!(object["message"], "bad\\nERROR forged");
        assert_eq!(object["fields"], json!({ "error": "no \\u{1b}[31manswer" }));
    }

    #[test]
    fn a_message_is_short_unless_it_was_asked_for() {
        let long = said(&"x".repeat(1 << 20));
        for lines in [Lines::Text { time: true }, Lines::Json, Lines::Journal] {
            assert!(lines.format(Level::INFO, "l4lb", &long).len() < 4000);
        }
        assert!(Lines::Json.format(Level::DEBUG, "l4lb", &long).len() > 1 << 20);
    }

    #[test]
    fn journald_gets_a_priority_for_each_line() {
        let log = Said { message: "one\ntwo".to_owned(), fields: Vec::new() };
        assert_eq!(Lines::Journal.format(Level::DEBUG, "libbpf", &log), "<7>one\n<7>two\n");
    }
}
