//! What commands that only read print: see [`crate::agent::printed`].

use hyper::StatusCode;

use super::answer::Answer;
use super::answer::Refusal;
use super::request::Asked;
use crate::agent::printed::COMMAND;
use crate::agent::printed::MAX_COMMAND;
use crate::agent::printed::MAX_WORDS;
use crate::agent::printed::Printer;
use crate::instance::Instance;

/// The parameters.
pub(super) const PARAMETERS: [&str; 1] = [COMMAND];

/// Runs the command of a request; `status`, if it names none.
pub(super) fn print(
    printer: Option<&Printer>,
    instance: &Instance,
    asked: &Asked,
) -> Result<Answer, Refusal> {
    let words = asked.query.read(COMMAND, words)?.unwrap_or_else(|| vec!["status".to_owned()]);
    let Some(printer) = printer else {
        let what = "this process is no lbctl serve: it prints nothing";
        return Err(Refusal::new(StatusCode::NOT_FOUND, what));
    };
    Answer::json(&printer.print(instance, &words, asked.secrets).map_err(Refusal::bad)?)
}

fn words(text: &str) -> Result<Vec<String>, String> {
    if text.len() > MAX_COMMAND {
        return Err(format!("longer than {MAX_COMMAND} bytes"));
    }
    let words: Vec<String> = serde_json::from_str(text)
        .map_err(|error| format!("write a list of words, such as [\"vip\",\"list\"]: {error}"))?;
    if words.len() > MAX_WORDS {
        return Err(format!("more than {MAX_WORDS} words"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_list_of_words() {
        assert_eq!(words("[\"vip\", \"list\"]").unwrap(), ["vip", "list"]);
        for text in ["", "vip list", "\"vip\"", "[1]", "{}", &format!("[\"{}\"]", "x".repeat(5000))]
        {
            words(text).expect_err(text);
        }
        words(&format!("[{}\"a\"]", "\"a\",".repeat(64))).expect_err("too many");
    }
}
