//! The version of what programs read.

/// The version of the JSON that commands print and the control API answers. It rises when a program that reads the JSON
/// must change: a key or value goes away, or means something else. New keys, values, kinds of errors and commands do not
/// raise it. docs/json.md describes it.
pub const JSON_FORMAT: u32 = 1;
