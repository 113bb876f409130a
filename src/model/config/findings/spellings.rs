//! Addresses that a file writes in two ways: a search for one of them misses the other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;

use crate::model::config::ConfigError;
use crate::model::config::errors::Errors;
use crate::model::text::quote;

/// Looks through the trees of all files.
pub(super) fn look(root: &Map<String, Value>, warnings: &mut Errors) {
    let mut known = BTreeMap::new();
    let mut note = |key: String, value: Option<&Value>| {
        let Some(text) = value.and_then(Value::as_str) else { return };
        // IPv4 addresses have one spelling.
        let Ok(address @ IpAddr::V6(_)) = text.parse::<IpAddr>() else { return };
        let (first, place) = known.entry(address).or_insert_with(|| (text.to_owned(), key.clone()));
        if first != text {
            let what = format!("{} is {}; write an address in one way", quote(text), quote(first));
            warnings.push(ConfigError::at(key, what).also(place.clone()));
        }
    };
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    for (i, vip) in list(root.get("vips")).iter().enumerate() {
        note(format!("vips[{i}].address"), vip.get("address"));
        for (j, real) in list(vip.get("reals")).iter().enumerate() {
            note(format!("vips[{i}].reals[{j}].address"), real.get("address"));
        }
    }
    for (i, entry) in list(root.get("server_ids")).iter().enumerate() {
        note(format!("server_ids[{i}].real"), entry.get("real"));
    }
    for (i, entry) in list(root.get("decapsulate")).iter().enumerate() {
        note(format!("decapsulate[{i}].address"), entry.get("address"));
    }
}
