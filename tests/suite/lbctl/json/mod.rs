//! What commands print with `--json`.

mod version;
