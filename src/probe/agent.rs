//! `agent`: the real says how it is, in the text protocol of `HAProxy`'s agent-check.
//!
//! A line of words, apart by spaces, tabs or commas, which ends by a line end or with the connection. Words that mean
//! nothing are ignored, as `HAProxy` does.

use tokio::io::AsyncReadExt as _;

use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::report::Class;
use super::session::Session;
use crate::model::text::quote;

/// The longest line.
const MAX_LINE: usize = 4096;

pub(super) async fn run(session: &mut Session) -> Result<Success, Failure> {
    let target = session.target;
    let mut stream = connect::tcp(session).await?;
    session.wait_for("no line from the agent");
    let (mut line, mut length) = ([0; MAX_LINE], 0);
    let end = loop {
        if length == MAX_LINE {
            let reason = format!("agent: no line end in {MAX_LINE} bytes");
            return Err(Failure::new(Class::Protocol, reason));
        }
        let read = stream.read(&mut line[length..]).await;
        let read = read.map_err(|error| Failure::of_peer(&error, target))?;
        let end = line[length..length + read].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        if let Some(end) = end {
            // The agent has said everything, and need not close first.
            break length + end;
        }
        length += read;
        if read == 0 {
            break length;
        }
    };
    let text = String::from_utf8_lossy(&line[..end]);
    session.step("line", || quote(&text));
    judge(&text)
}

/// What a line says.
fn judge(line: &str) -> Result<Success, Failure> {
    // A reason goes up to the end.
    let (words, why) = match line.split_once('#') {
        Some((words, why)) => (words, Some(why.trim())),
        None => (line, None),
    };
    let (mut share, mut drained, mut known) = (100, false, false);
    let mut down: Option<&str> = None;
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            // `ready` ends what `drain` and `maint` said before: each line says all, so there is nothing to end.
            "up" | "ready" => {}
            "drain" => drained = true,
            "maint" => down = Some("maint"),
            "down" => down = Some("down"),
            "fail" | "failed" => down = Some("fail"),
            "stop" | "stopped" => down = Some("stopped"),
            other => match percentage(other) {
                Some(percent) => share = percent,
                None => continue,
            },
        }
        known = true;
    }
    if !known {
        let reason = format!("agent: no word that it knows: '{}'", quote(line.trim()));
        return Err(Failure::new(Class::Protocol, reason));
    }
    let with = |state: &str| match why {
        Some(why) if !why.is_empty() => format!("agent: {state} ({why})"),
        _ => format!("agent: {state}"),
    };
    match down {
        Some(state) => Err(Failure::new(Class::Agent, with(state))),
        None if drained => Ok(Success { share: 0, ..Success::new(with("drain")) }),
        None if share == 100 => Ok(Success::new(with("up"))),
        None => Ok(Success { share, ..Success::new(with(&format!("{share}%"))) }),
    }
}

/// `75%`. More than all is all: a real has the weight that the operator gave it.
fn percentage(word: &str) -> Option<u8> {
    let digits = word.strip_suffix('%').filter(|d| d.bytes().all(|byte| byte.is_ascii_digit()))?;
    let percent: u32 = digits.parse().ok()?;
    u8::try_from(percent.min(100)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_how_the_real_is() {
        for (line, share, reason) in [
            ("up", 100, "agent: up"),
            (" UP \t", 100, "agent: up"),
            ("ready", 100, "agent: up"),
            ("75%", 75, "agent: 75%"),
            ("up,25%", 25, "agent: 25%"),
            ("ready 0% maxconn:10", 0, "agent: 0%"),
            ("drain 50%", 0, "agent: drain"),
            ("200%", 100, "agent: up"),
            ("up # load is low", 100, "agent: up (load is low)"),
        ] {
            let success = judge(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
            assert_eq!((success.share, success.reason.as_str()), (share, reason), "{line}");
        }
        for (line, class, reason) in [
            ("down", Class::Agent, "agent: down"),
            ("down #maintenance", Class::Agent, "agent: down (maintenance)"),
            ("maint,75%", Class::Agent, "agent: maint"),
            ("stopped#", Class::Agent, "agent: stopped"),
            ("fail # up", Class::Agent, "agent: fail (up)"),
            ("", Class::Protocol, "agent: no word that it knows: ''"),
            ("maxconn:10", Class::Protocol, "agent: no word that it knows: 'maxconn:10'"),
            ("-5%", Class::Protocol, "agent: no word that it knows: '-5%'"),
            ("99999999999%", Class::Protocol, "agent: no word that it knows: '99999999999%'"),
        ] {
            let failure = judge(line).expect_err(line);
            assert_eq!((failure.class, failure.reason.as_str()), (class, reason), "{line}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let failure = judge(&format!("down #{}", "ä\u{1b}".repeat(100))).expect_err("it is down");
        assert!(failure.reason.len() <= crate::probe::MAX_REASON, "{}", failure.reason);
        assert!(failure.reason.ends_with('…') && !failure.reason.contains('\u{1b}'));
    }
}
