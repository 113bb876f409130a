//! Whether users other than root can reach the folders of pins.

use super::catalogue::Severity;
use super::report::Answer;
use super::report::Fix;
use crate::instance::Instance;
use crate::instance::folders;
use crate::model::error::Error;

pub(super) fn exposed_pins(instance: &Instance, checked: &Result<(), Error>) -> Option<Answer> {
    match checked {
        Err(Error::UntrustedFolder(folder)) => {
            return Some(Answer::hurts(
                Severity::Error,
                format!("{} {}", folder.path.display(), folder.why),
                "programs and maps could be somebody else's: every command refuses",
                Fix::Advice(folder.remedy.clone()),
            ));
        }
        Err(_) => return None,
        Ok(()) => {}
    }
    let (open, everybodys) = folders::open_to_others(instance);
    let quoted = |paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    Some(if !open.is_empty() {
        Answer::hurts(
            Severity::Warning,
            format!("users other than root can open {}", quoted(&open)),
            "any user can hold the lock that every command waits for; the next command that changes anything closes them, if the layout is the same",
            Fix::Command(format!("chmod 0700 {}", quoted(&open))),
        )
    } else if everybodys {
        let bpffs = instance.bpffs().display();
        Answer::hurts(
            Severity::Warning,
            format!("users other than root can make folders in the bpf filesystem at {bpffs}"),
            "a user who makes the folder l4lb there before the first apply keeps every command from working",
            Fix::Command(format!("chmod 0700 {bpffs}")),
        )
    } else {
        Answer::Well
    })
}
