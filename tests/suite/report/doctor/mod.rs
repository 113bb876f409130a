//! `lbctl doctor`: each test causes a finding, does what the finding says, and the finding is gone.

mod balancer;
mod checks;
mod harm;
mod kernel;
mod offloads;
mod real;
mod running;
mod tunnel;
mod ways;

use std::path::Path;

use serde_json::Value;

use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::json;

/// A host that is looked at, in one way.
#[derive(Debug)]
pub(crate) struct Patient<'a> {
    lbctl: Lbctl<'a>,
    ns: &'a NetNs,
    arguments: Vec<String>,
}

impl<'a> Patient<'a> {
    pub(crate) fn new(lbctl: Lbctl<'a>, ns: &'a NetNs, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { lbctl, ns, arguments }
    }

    /// The same, looked at in another way.
    pub(crate) fn with(&self, arguments: &[&str]) -> Self {
        Self::new(self.lbctl.clone(), self.ns, arguments)
    }

    /// What doctor reports. The exit code must say whether there are errors.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        let mut arguments = vec!["doctor", "--json"];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let output = self.lbctl.run(&arguments);
        let report = json(&output);
        let findings = report["findings"].as_array().expect("findings");
        let errors = findings.iter().any(|finding| finding["severity"] == "error");
        assert_eq!(output.code(), Some(errors.into()), "{output}");
        report
    }

    /// The finding of this kind at this place, if there is one.
    #[track_caller]
    pub(crate) fn find(&self, id: &str, place: &str) -> Option<Value> {
        let report = self.report();
        let result = |result: &str| {
            let checked = report["checked"].as_array().expect("checked");
            let same = |check: &&Value| check["id"] == id && check["place"] == place;
            checked.iter().any(|check| same(&check) && check["result"] == result)
        };
        let findings = report["findings"].as_array().expect("findings");
        let found = findings
            .iter()
            .find(|finding| finding["id"] == id && finding["place"] == place)
            .cloned();
        assert_eq!(found.is_some(), result("found"), "{id} at {place}: {report:#}");
        found
    }

    /// The finding, which must be there, with this severity and with these words in what it says.
    #[track_caller]
    pub(crate) fn finds(&self, id: &str, place: &str, severity: &str, words: &[&str]) -> Value {
        let found = self.find(id, place);
        let found = found.unwrap_or_else(|| panic!("no {id} at {place}: {:#}", self.report()));
        assert_eq!(found["severity"], severity, "{found}");
        for word in words {
            assert!(found["what"].as_str().expect("text").contains(word), "'{word}' in {found}");
        }
        found
    }

    /// Fails the test unless it was looked for, and not found.
    #[track_caller]
    pub(crate) fn is_well(&self, id: &str, place: &str) {
        let report = self.report();
        let checked = report["checked"].as_array().expect("checked");
        let found = checked.iter().find(|check| check["id"] == id && check["place"] == place);
        let found =
            found.unwrap_or_else(|| panic!("{id} at {place} was not looked for: {report:#}"));
        assert_eq!(found["result"], "well", "{found}");
    }

    /// Runs the command that fixes a finding.
    #[track_caller]
    pub(crate) fn fix(&self, finding: &Value) {
        let command = finding["fix"]["command"].as_str();
        let command = command.unwrap_or_else(|| panic!("no command: {finding}"));
        let lbctl = Path::new(env!("CARGO_BIN_EXE_lbctl")).parent().expect("a folder");
        self.ns.shell(&format!("PATH={}:$PATH\n{command}", lbctl.display()));
    }

    /// The finding must be there, and gone once what it says was done.
    #[track_caller]
    pub(crate) fn is_fixed(&self, id: &str, place: &str, severity: &str, words: &[&str]) {
        let finding = self.finds(id, place, severity, words);
        self.fix(&finding);
        self.is_well(id, place);
    }

    /// The finding must be there, with this advice.
    #[track_caller]
    pub(crate) fn is_advised(&self, id: &str, place: &str, severity: &str, advice: &str) {
        let finding = self.finds(id, place, severity, &[]);
        let text = finding["fix"]["advice"].as_str();
        assert!(text.is_some_and(|text| text.contains(advice)), "'{advice}' in {finding}");
    }
}
