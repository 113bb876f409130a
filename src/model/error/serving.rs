//! Why an instance cannot be served, or reloaded.

use std::time::Duration;

use strum::IntoStaticStr;
use strum::VariantNames;

use crate::model::part::DEFAULT_INSTANCE;
use crate::model::part::Part;

/// Why an instance cannot be served, or reloaded.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum ServingError {
    /// Another process serves it already.
    #[error(
        "{part} of instance '{instance}' is served already, by {holder}: '{}' makes it reload; to replace it, end it first",
        reload_command(part, instance)
    )]
    Served {
        /// What is served.
        part: Part,
        /// The instance.
        instance: String,
        /// The process that serves it: id and command, as far as they are visible.
        holder: String,
    },

    /// Nobody serves it.
    #[error("nobody serves {part} of instance '{instance}': {}", remedy(part))]
    NotServed {
        /// What is not served.
        part: Part,
        /// The instance.
        instance: String,
    },

    /// The process that serves it cannot be sent a signal from here.
    #[error("{part} of instance '{instance}' is served by {holder}: reload it from there")]
    OutOfReach {
        /// What is served.
        part: Part,
        /// The instance.
        instance: String,
        /// The process that serves it.
        holder: String,
    },

    /// The process that was to reload ended.
    #[error("{holder} ended before it had reloaded")]
    Ended {
        /// The process.
        holder: String,
    },

    /// The process did not report an outcome in time.
    #[error(
        "{holder} has not reloaded within {} s, and may still do so: see its log, or 'lbctl status'",
        timeout.as_secs()
    )]
    TimedOut {
        /// The process.
        holder: String,
        /// How long the command waited.
        timeout: Duration,
    },

    /// The record of the serving process has another format than this build expects.
    #[error(
        "{holder} is of another build of lbctl: restart it, or send it SIGHUP and look at its log"
    )]
    OtherBuild {
        /// The process.
        holder: String,
    },
}

fn reload_command(part: &Part, instance: &str) -> String {
    let option = match instance {
        DEFAULT_INSTANCE => String::new(),
        name => format!(" --instance {name}"),
    };
    match part {
        Part::Decap(interface) => format!("lbctl decap reload {interface}{option}"),
        Part::Balancer => format!("lbctl reload{option}"),
    }
}

fn remedy(part: &Part) -> String {
    match part {
        Part::Decap(interface) => {
            format!(
                "'lbctl decap serve {interface}' serves it; 'lbctl decap attach {interface}' reads addresses once"
            )
        }
        Part::Balancer => {
            "'lbctl serve -f FILE' serves it; 'lbctl apply -f FILE' applies a file".to_owned()
        }
    }
}
