//! What commands print with `--json`.

mod errors;
mod version;
