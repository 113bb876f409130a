//! Programs that a configuration names.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Everybody may write.
const EVERYBODYS: u32 = 0o002;

/// In a sticky folder, nobody can exchange what others have made.
const STICKY: u32 = 0o1000;

/// Why a program cannot be run, or must not, and what to do: `lbctl serve` runs it with its own rights, mostly root's.
/// What its owner or group may do to it is for the operator to decide.
pub(crate) fn why_not(program: &Path) -> Option<String> {
    let shown = program.display();
    let file = match fs::canonicalize(program) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(
                "there is no such file: install the program, or correct the path".to_owned(),
            );
        }
        Err(error) => return Some(error.to_string()),
    };
    let facts = match fs::metadata(&file) {
        Ok(facts) if facts.is_dir() => {
            return Some("it is a folder: name the program in it".to_owned());
        }
        Ok(facts) if !facts.is_file() => return Some("it is no program".to_owned()),
        Ok(facts) => facts,
        Err(error) => return Some(error.to_string()),
    };
    let mode = facts.permissions().mode();
    if mode & 0o111 == 0 {
        return Some(format!("it is not executable: chmod +x {shown}"));
    }
    if mode & EVERYBODYS != 0 {
        let mode = mode & 0o7777;
        return Some(format!(
            "every user can change what lbctl serve would run (mode {mode:04o}): chmod o-w {shown}"
        ));
    }
    let open = file.ancestors().skip(1).find(|folder| {
        let mode = fs::metadata(folder).map_or(0, |facts| facts.permissions().mode());
        mode & EVERYBODYS != 0 && mode & STICKY == 0
    });
    open.map(|folder| {
        format!(
            "every user can exchange what lbctl serve would run, because all may write to {0}: chmod o-w {0}",
            folder.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn programs_that_cannot_or_must_not_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("check");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let mode =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let why = |path: &Path| why_not(path).unwrap_or_default();
        mode(&program, 0o755);
        assert_eq!(why_not(&program), None);
        let link = folder.path().join("link");
        symlink(&program, &link).unwrap();
        assert_eq!(why_not(&link), None);
        mode(&program, 0o644);
        assert!(why(&program).starts_with("it is not executable: chmod +x /"));
        mode(&program, 0o757);
        assert!(why(&link).contains("(mode 0757): chmod o-w /"), "{}", why(&link));
        mode(&program, 0o775);
        assert_eq!(why_not(&program), None, "the group is the operator's matter");
        mode(folder.path(), 0o777);
        assert!(why(&program).starts_with("every user can exchange"), "{}", why(&program));
        mode(folder.path(), 0o1777);
        assert_eq!(why_not(&program), None);
        assert!(why(folder.path()).starts_with("it is a folder"));
        assert!(why(&folder.path().join("no")).starts_with("there is no such file"));
        assert_eq!(why(Path::new("/dev/null")), "it is no program");
        assert!(why(&program.join("x")).starts_with("Not a directory"));
    }
}
