//! The resources of the API, and what can be done with each. docs/openapi.json describes the same; a test compares.

use hyper::Method;
use hyper::StatusCode;
use hyper::header;

use super::answer::Answer;
use super::answer::Refusal;
use super::change;
use super::change::Change;
use super::drain;
use super::drain::Drains;
use super::health;
use super::output;
use super::read;
use super::request::Asked;
use super::request::decode;
use crate::agent::printed::PATH;
use crate::instance::Instance;
use crate::model::address::Vip;
use crate::model::text::quote;
use crate::plan::Plan;

/// A change that is made, and its plan.
type Told = Result<(Answer, Plan), Refusal>;

/// What records the health of a real, or that the node drains.
type Tell = fn(&Instance, &Asked) -> Told;

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    /// It reads nothing.
    Fixed(fn(&Instance) -> Result<Answer, Refusal>),
    /// It reads what the status page shows, once a second for all who ask.
    Overview,
    /// It reads the instance.
    Read(fn(&Instance, &Asked) -> Result<Answer, Refusal>),
    /// As `Read`, with what was read before.
    Watch(fn(&Drains, &Instance, &Asked) -> Result<Answer, Refusal>),
    /// It runs a command that only reads.
    Print,
    /// As `Read`, with what this process knows about its file.
    Readiness,
    /// It records what somebody says about the health of a real, or about the node.
    Tell(Tell),
    /// It changes VIPs or reals.
    Change(fn(&Asked) -> Result<Change, Refusal>),
}

/// A method of a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// Its parameters behind the `?`.
    pub(super) parameters: &'static [&'static str],
    pub(super) run: Run,
}

/// What a path stands for.
#[derive(Debug)]
pub(super) struct Resource {
    /// The path. `{protocol}/{address}/{port}` is a VIP, `{real}` the address of a real.
    pub(super) template: &'static str,
    pub(super) operations: &'static [Operation],
}

const fn get(run: fn(&Instance, &Asked) -> Result<Answer, Refusal>) -> Operation {
    Operation { method: "GET", parameters: &[], run: Run::Read(run) }
}

const fn fixed(run: fn(&Instance) -> Result<Answer, Refusal>) -> Operation {
    Operation { method: "GET", parameters: &[], run: Run::Fixed(run) }
}

const fn change(method: &'static str, make: fn(&Asked) -> Result<Change, Refusal>) -> Operation {
    Operation { method, parameters: &[change::DRY_RUN], run: Run::Change(make) }
}

const fn tell(method: &'static str, run: Tell) -> Operation {
    Operation { method, parameters: &[], run: Run::Tell(run) }
}

const fn watch(
    parameters: &'static [&'static str],
    run: fn(&Drains, &Instance, &Asked) -> Result<Answer, Refusal>,
) -> Operation {
    Operation { method: "GET", parameters, run: Run::Watch(run) }
}

pub(super) const RESOURCES: &[Resource] = &[
    Resource { template: "/v1", operations: &[fixed(read::index)] },
    Resource { template: "/v1/openapi.json", operations: &[fixed(|_| Ok(read::openapi()))] },
    Resource { template: "/v1/version", operations: &[fixed(read::version)] },
    Resource {
        template: "/v1/readiness",
        operations: &[Operation {
            method: "GET",
            parameters: &[read::STRICT],
            run: Run::Readiness,
        }],
    },
    Resource {
        template: PATH,
        operations: &[Operation {
            method: "GET",
            parameters: &output::PARAMETERS,
            run: Run::Print,
        }],
    },
    Resource {
        template: "/v1/overview",
        operations: &[Operation { method: "GET", parameters: &[], run: Run::Overview }],
    },
    Resource { template: "/v1/status", operations: &[get(read::status)] },
    Resource { template: "/v1/stats", operations: &[get(read::stats)] },
    Resource { template: "/v1/config", operations: &[get(read::config)] },
    Resource {
        template: "/v1/flows/count",
        operations: &[Operation {
            method: "GET",
            parameters: &read::FLOWS,
            run: Run::Read(read::count_flows),
        }],
    },
    Resource {
        template: "/v1/node",
        operations: &[watch(&[], drain::node), tell("PATCH", drain::change_node)],
    },
    Resource {
        template: "/v1/health",
        operations: &[Operation {
            method: "GET",
            parameters: &health::SELECT,
            run: Run::Read(health::all),
        }],
    },
    Resource { template: "/v1/reals", operations: &[get(read::all_reals)] },
    Resource {
        template: "/v1/reals/{real}",
        operations: &[
            get(read::real_everywhere),
            change("PATCH", change::change_everywhere),
            change("DELETE", change::delete_everywhere),
        ],
    },
    Resource {
        template: "/v1/reals/{real}/drain",
        operations: &[watch(&[drain::IDLE], drain::everywhere)],
    },
    Resource {
        template: "/v1/vips",
        operations: &[get(read::vips), change("POST", change::add_vip)],
    },
    Resource {
        template: "/v1/vips/{protocol}/{address}/{port}",
        operations: &[
            get(read::vip),
            change("PUT", change::put_vip),
            change("DELETE", change::delete_vip),
        ],
    },
    Resource {
        template: "/v1/vips/{protocol}/{address}/{port}/reals",
        operations: &[get(read::reals), change("POST", change::add_real)],
    },
    Resource {
        template: "/v1/vips/{protocol}/{address}/{port}/reals/{real}",
        operations: &[
            get(read::real),
            change("PUT", change::put_real),
            change("PATCH", change::change_real),
            change("DELETE", change::delete_real),
        ],
    },
    Resource {
        template: "/v1/vips/{protocol}/{address}/{port}/reals/{real}/health",
        operations: &[
            get(health::of_real),
            tell("PUT", health::tell),
            tell("DELETE", health::forget),
        ],
    },
    Resource {
        template: "/v1/vips/{protocol}/{address}/{port}/reals/{real}/drain",
        operations: &[watch(&[drain::IDLE], drain::of_real)],
    },
];

/// The resource of a path, and the VIP and real that the path names.
pub(super) fn find(path: &str) -> Result<(&'static Resource, Asked), Refusal> {
    let segments: Vec<_> = path.split('/').map(decode).collect::<Result<_, _>>()?;
    let fits = |resource: &&Resource| {
        let mut template = resource.template.split('/');
        template.clone().count() == segments.len()
            && segments.iter().all(|segment| {
                template.next().is_some_and(|part| part.starts_with('{') || part == segment)
            })
    };
    let resource = RESOURCES.iter().find(fits).ok_or_else(|| {
        let what = format!("there is no {}; /v1/openapi.json tells what there is", quote(path));
        Refusal::new(StatusCode::NOT_FOUND, what)
    })?;
    let of = |name: &str| {
        let at = resource.template.split('/').position(|part| part == name)?;
        segments.get(at).map(String::as_str)
    };
    let mut asked = Asked::default();
    if let (Some(protocol), Some(address), Some(port)) =
        (of("{protocol}"), of("{address}"), of("{port}"))
    {
        asked.vip = Some(vip(protocol, address, port)?);
    }
    if let Some(real) = of("{real}") {
        let bad = |_| Refusal::bad(format!("'{}' is no IP address of a real", quote(real)));
        asked.real = Some(real.parse().map_err(bad)?);
    }
    Ok((resource, asked))
}

/// A VIP in a path: `tcp/10.200.1.1/80`, `udp/fc00:1::2/443`, with `0` or `*` for every port.
fn vip(protocol: &str, address: &str, port: &str) -> Result<Vip, Refusal> {
    let port = if port == "0" { "*" } else { port };
    let text = if address.contains(':') {
        format!("{protocol}://[{address}]:{port}")
    } else {
        format!("{protocol}://{address}:{port}")
    };
    text.parse().map_err(|error| {
        Refusal::bad(format!("{error}; a path has it as tcp/10.200.1.1/80, udp/fc00:1::2/443"))
    })
}

impl Resource {
    /// The operation of a method. HEAD is answered as GET, without the body.
    pub(super) fn operation(&self, method: &Method) -> Result<&'static Operation, Refusal>
    where
        Self: 'static,
    {
        let name = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.operations.iter().find(|operation| operation.method == name).ok_or_else(|| {
            let mut allowed: Vec<_> = self.operations.iter().map(|known| known.method).collect();
            if allowed.contains(&"GET") {
                allowed.push("HEAD");
            }
            let allowed = allowed.join(", ");
            let what = format!("{} is not possible here: {allowed}", quote(method.as_str()));
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what).with_header(header::ALLOW, allowed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::path_of;
    use super::*;

    #[test]
    fn paths_name_vips_and_reals() {
        for (path, vip, real) in [
            ("/v1/vips/tcp/10.200.1.1/80", "tcp://10.200.1.1:80", None),
            ("/v1/vips/udp/fc00:1::2/443/reals", "udp://[fc00:1::2]:443", None),
            ("/v1/vips/tcp/10.200.1.2/*", "tcp://10.200.1.2:*", None),
            ("/v1/vips/tcp/10.200.1.2/0", "tcp://10.200.1.2:*", None),
            (
                "/v1/vips/udp/fc00%3A1%3a%3A2/443/reals/10.0.0.1",
                "udp://[fc00:1::2]:443",
                Some("10.0.0.1"),
            ),
        ] {
            let (_, asked) = find(path).expect(path);
            let vip: Vip = vip.parse().unwrap();
            let real = real.map(|real| real.parse().unwrap());
            assert_eq!((asked.vip, asked.real), (Some(vip), real), "{path}");
            if let Some(real) = real {
                assert_eq!(find(&path_of(vip, Some(real))).unwrap().1.vip, Some(vip));
            }
        }
        for path in [
            "/",
            "",
            "/v1/",
            "/v2/vips",
            "/v1/vips/",
            "/v1/vips/tcp",
            "/v1/vips/../vips",
            "/v1/../../etc/passwd",
            "/v1/vips/%2e%2e/status",
            "/v1/vips/tcp%3A%2F%2F10.200.1.1%3A80",
            "/v1/flows",
        ] {
            let refusal = find(path).expect_err(path).into_answer();
            assert_eq!(refusal.status(), StatusCode::NOT_FOUND, "{path}");
        }
        for path in [
            "/v1/vips/sctp/10.200.1.1/80",
            "/v1/vips/tcp/10.200.1/80",
            "/v1/vips/tcp/[fc00::1]/80",
            "/v1/vips/tcp/example.net/80",
            "/v1/vips/tcp/10.200.1.1/65536",
            "/v1/vips/tcp/10.200.1.1/-1",
            "/v1/vips/tcp/10.200.1.1/80/reals/x",
            "/v1/vips/tcp/10.200.1.1%2f80/80",
            "/v1/vips/tcp/10.200.1.1/%zz",
        ] {
            let refusal = find(path).expect_err(path).into_answer();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{path}");
        }
    }

    /// Two resources must not fit the same path, and each method is there once.
    #[test]
    fn resources_are_apart() {
        for resource in RESOURCES {
            let path = resource.template.replace("{protocol}", "tcp").replace("{port}", "80");
            let path = path.replace("{address}", "10.200.1.1").replace("{real}", "10.0.0.1");
            assert_eq!(find(&path).unwrap().0.template, resource.template);
            let mut methods: Vec<_> =
                resource.operations.iter().map(|known| known.method).collect();
            methods.dedup();
            assert_eq!(methods.len(), resource.operations.len());
        }
    }
}
