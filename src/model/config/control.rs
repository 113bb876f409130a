//! The control API of `lbctl serve`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;

use super::Config;
use super::ConfigError;
use super::errors::Errors;
use crate::model::text::quote;

/// The most bytes of a socket's path (`unix(7)`): `sun_path` has 108, and the last is zero.
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// The most bytes of a group's name.
const MAX_GROUP: usize = 256;

/// `[control]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ControlConfig {
    /// Where `lbctl serve` answers the control API.
    pub socket: ControlSocket,
    /// Who may use the socket. Default: its owner; with `group`, the group too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<SocketMode>,
    /// The group of the socket: its name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What those who may use the socket, and are neither root nor the user of `lbctl serve`, may do.
    pub group_may: GroupMay,
}

/// `group_may`: `"read"` or `"change"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GroupMay {
    /// Look at everything, and change nothing.
    #[default]
    Read,
    /// Change VIPs, reals, their health, and the node, too.
    Change,
}

/// `socket`: `"auto"`, `"off"`, or a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlSocket {
    /// `/run/l4lb/INSTANCE.sock`. None, if the pins of the instance are in another bpf filesystem than that at
    /// `/sys/fs/bpf`, where other instances may have the same names.
    #[default]
    Auto,
    /// There is no socket.
    Off,
    /// The socket has this path.
    At(PathBuf),
}

impl<'de> Deserialize<'de> for ControlSocket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)? {
            text if text == "auto" => Self::Auto,
            text if text == "off" => Self::Off,
            text => Self::At(text.into()),
        })
    }
}

impl Serialize for ControlSocket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::At(path) => path.serialize(serializer),
        }
    }
}

/// `mode`: who may use the socket, as `chmod` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketMode {
    /// `"0600"`: its owner.
    Owner,
    /// `"0660"`: its owner and its group.
    Group,
}

impl SocketMode {
    /// The permissions.
    pub fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.bits())
    }
}

impl<'de> Deserialize<'de> for SocketMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "0600" | "600" => Ok(Self::Owner),
            "0660" | "660" => Ok(Self::Group),
            text => Err(de::Error::custom(format!(
                "'{}' is neither \"0600\" nor \"0660\": whoever may use the socket sees all VIPs and reals, so give it to a \
                 group, not to everybody",
                quote(text)
            ))),
        }
    }
}

impl Serialize for SocketMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ControlConfig {
    /// The mode in force.
    pub fn mode(&self) -> SocketMode {
        let default = if self.group.is_some() { SocketMode::Group } else { SocketMode::Owner };
        self.mode.unwrap_or(default)
    }
}

impl Config {
    pub(super) fn check_control(&self, errors: &mut Errors) {
        let control = &self.control;
        if let ControlSocket::At(path) = &control.socket {
            let shown = quote(&path.display().to_string());
            let mut refuse = |why: String| errors.push(ConfigError::at("control.socket", why));
            let like = "write it like \"/run/l4lb/default.sock\", or \"auto\" or \"off\"";
            let bytes = path.as_os_str().as_bytes();
            if !path.is_absolute() {
                refuse(format!("'{shown}' is no absolute path; {like}"));
            } else if bytes.len() > MAX_SOCKET_PATH {
                refuse(format!(
                    "a path of {} bytes; the kernel takes at most {MAX_SOCKET_PATH} for a socket",
                    bytes.len()
                ));
            } else if bytes.contains(&0) || !is_plain(path) {
                refuse(format!("'{shown}' names no file in a folder; {like}"));
            }
        }
        if let Some(group) = &control.group {
            let mut refuse = |why: String| errors.push(ConfigError::at("control.group", why));
            let strange = |c: char| matches!(c, ':' | '/') || c.is_whitespace() || c.is_control();
            if group.is_empty() || group.len() > MAX_GROUP || group.contains(strange) {
                refuse(format!("'{}' is no name or number of a group", quote(group)));
            }
            if control.mode == Some(SocketMode::Owner) {
                refuse("mode = \"0600\" keeps the group out; leave out one of them".to_owned());
            }
        }
    }
}

/// Whether a path is that of a file, without `.` and `..`.
fn is_plain(path: &Path) -> bool {
    let normal = |part: &Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let plain: PathBuf = path.components().filter(normal).collect();
    // `components` leaves out `.`, slashes at the end and those that are doubled.
    plain.as_os_str() == path.as_os_str() && plain.file_name().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ControlConfig, String> {
        let config = Config::from_toml(&format!("[control]\n{text}"));
        config.map(|config| config.control).map_err(|error| error.to_string())
    }

    #[test]
    fn who_may_use_the_socket() {
        for (text, mode) in [
            ("", SocketMode::Owner),
            ("mode = \"0660\"", SocketMode::Group),
            ("group = \"operators\"", SocketMode::Group),
            ("group = \"27\"\nmode = \"660\"", SocketMode::Group),
        ] {
            assert_eq!(read(text).expect(text).mode(), mode, "{text}");
        }
        for (text, why) in [
            ("mode = \"0666\"", "control.mode: '0666' is neither \"0600\" nor \"0660\""),
            ("mode = 384", "control.mode: invalid type: integer `384`, expected text in quotes"),
            ("group_may = \"write\"", "control.group_may: "),
            ("group = \"\"", "control.group: '' is no name or number of a group"),
            ("group = \"a b\"", "control.group: 'a b' is no name"),
            (
                "group = \"a\"\nmode = \"0600\"",
                "control.group: mode = \"0600\" keeps the group out",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_group_reads_unless_the_file_says_more() {
        for (text, may) in [
            ("group = \"operators\"", GroupMay::Read),
            ("group_may = \"read\"", GroupMay::Read),
            ("group = \"operators\"\ngroup_may = \"change\"", GroupMay::Change),
        ] {
            assert_eq!(read(text).expect(text).group_may, may, "{text}");
        }
    }

    #[test]
    fn where_the_socket_may_be() {
        let socket = |path: &str| read(&format!("socket = \"{path}\""));
        assert_eq!(socket("auto").unwrap().socket, ControlSocket::Auto);
        assert_eq!(socket("off").unwrap().socket, ControlSocket::Off);
        let long = |bytes: usize| format!("/run/{}", "x".repeat(bytes - 5));
        for path in ["/run/l4lb/a.sock", "/a", &long(MAX_SOCKET_PATH)] {
            assert_eq!(socket(path).unwrap().socket, ControlSocket::At(path.into()));
        }
        for (path, why) in [
            ("", "'' is no absolute path; write it like \"/run/l4lb/default.sock\""),
            ("run/a.sock", "'run/a.sock' is no absolute path"),
            ("@abstract", "is no absolute path"),
            ("/", "names no file in a folder"),
            ("/run/", "names no file in a folder"),
            ("/run/../a", "names no file in a folder"),
            ("/run/./a", "names no file in a folder"),
            ("/run//a", "names no file in a folder"),
            ("/run/a\\u0000b", "names no file in a folder"),
            (&long(MAX_SOCKET_PATH + 1), "a path of 108 bytes; the kernel takes at most 107"),
        ] {
            let error = socket(path).expect_err(path);
            assert!(error.contains("control.socket: ") && error.contains(why), "{path}: {error}");
        }
    }
}
