//! `lbctl test`

use std::path::PathBuf;

use l4lb::packet_test;
use l4lb::packet_test::FileResult;

use crate::Exit;
use crate::Result;
use crate::output;

pub(crate) fn run(files: &[PathBuf], json: bool) -> Result {
    let results =
        files.iter().map(|file| packet_test::run_file(file)).collect::<l4lb::Result<Vec<_>>>()?;
    let passed: usize = results.iter().map(FileResult::passed).sum();
    let failed: usize = results.iter().map(FileResult::failed).sum();
    if json {
        output::json(&results)?;
    } else {
        output::text(packet_test::render(&results))?;
        output::line(format!("{passed} passed, {failed} failed"))?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}
