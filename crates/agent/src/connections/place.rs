//! What the path of a cgroup says of who lives there: the unit, and the container.
//!
//! Paths are those of systemd (systemd.unit(5), "String Escaping for Inclusion in Unit Names") and of the container
//! engines, with either of their cgroup drivers: a scope of systemd's, or a plain directory named by the id.

use serde::Serialize;

/// Who runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// containerd, for Kubernetes or nerdctl.
    Containerd,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    Crio,
    /// Kubernetes, by an engine that the path does not name.
    Kubernetes,
    /// LXC or Incus.
    Lxc,
    /// A machine of systemd-machined: systemd-nspawn or a virtual machine.
    Machine,
}

impl Runtime {
    /// The word for it, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Kubernetes => "kubernetes",
            Self::Lxc => "lxc",
            Self::Machine => "machine",
        }
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Container {
    /// Who runs it.
    pub runtime: Runtime,
    /// Its id (64 hexadecimal digits), or its name where the path has that.
    pub id: String,
}

/// Endings of units that processes live in (systemd.unit(5)).
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// The unit that owns the cgroup: the innermost part of the path that is one. Slices are not units of this kind: nothing
/// runs in them directly.
pub fn unit(path: &str) -> Option<String> {
    let found = path.rsplit('/').find(|part| UNITS.iter().any(|ending| part.ends_with(ending)));
    found.map(str::to_owned)
}

/// The container that the cgroup is in, the innermost where they are nested.
pub fn container(path: &str) -> Option<Container> {
    container_around(path).map(|(container, _)| container)
}

/// The same, with the path of the container's own cgroup.
pub fn container_around(path: &str) -> Option<(Container, &str)> {
    above(path).find_map(|own| Some((container_at(own)?, own)))
}

/// The container whose own cgroup this is: all that is below it is the container's, too.
pub fn container_at(path: &str) -> Option<Container> {
    let parts: Vec<&str> = path.split('/').collect();
    let (part, above) = parts.split_last()?;
    scope(part).or_else(|| directory(above, part))
}

/// The path and those above it, the deepest first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

/// Scopes of systemd that engines make: `docker-ID.scope`.
fn scope(part: &str) -> Option<Container> {
    const SCOPES: [(&str, Runtime); 5] = [
        ("docker-", Runtime::Docker),
        ("libpod-", Runtime::Podman),
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-", Runtime::Crio),
    ];
    if let Some(name) =
        part.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"))
    {
        return named(Runtime::Machine, &unescaped(name));
    }
    let scope = part.strip_suffix(".scope")?;
    for (prefix, runtime) in SCOPES {
        if let Some(id) = scope.strip_prefix(prefix).filter(|id| is_id(id)) {
            return named(runtime, id);
        }
    }
    let name = unescaped(scope.strip_prefix("machine-")?);
    // libvirt: `machine-qemu\x2d1\x2dNAME.scope`, `machine-lxc\x2d1\x2dNAME.scope`.
    named(Runtime::Machine, &name)
}

/// Plain directories: `/docker/ID`, `/kubepods/burstable/podUID/ID`, `/libpod_parent/libpod-ID`, `/lxc.payload.NAME`.
fn directory(above: &[&str], part: &str) -> Option<Container> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return named(Runtime::Lxc, name);
    }
    if let Some(id) = part.strip_prefix("libpod-").filter(|id| is_id(id)) {
        return named(Runtime::Podman, id);
    }
    // containerd's and CRI-O's systemd drivers for nested engines: `SLICE:cri-containerd:ID`.
    if let Some((engine, id)) = part.rsplit_once(':').filter(|(_, id)| is_id(id)) {
        let engine = engine.rsplit(':').next().unwrap_or_default();
        let runtime = match engine {
            "docker" => Runtime::Docker,
            "crio" => Runtime::Crio,
            _ => Runtime::Containerd,
        };
        return named(runtime, id);
    }
    let parent = above.last().copied().unwrap_or_default();
    if matches!(parent, "lxc" | "lxc.payload") && !part.is_empty() {
        return named(Runtime::Lxc, part);
    }
    if !is_id(part) {
        return None;
    }
    let in_kubernetes = above.iter().any(|part| part.starts_with("kubepods"));
    match parent {
        "docker" => named(Runtime::Docker, part),
        _ if in_kubernetes => named(Runtime::Kubernetes, part),
        // nerdctl and ctr: `/NAMESPACE/ID`.
        "default" | "moby" | "buildkit" => named(Runtime::Containerd, part),
        _ => None,
    }
}

fn named(runtime: Runtime, id: &str) -> Option<Container> {
    (!id.is_empty()).then(|| Container { runtime, id: id.to_owned() })
}

/// 64 hexadecimal digits, as every engine names its containers.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `\xNN` as the byte it stands for; what is no UTF-8 then is shown as U+FFFD.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4c01db0b339c6ee2d20d4d1b1ea6d8f2e7b0a8f0b8e4c0e1a9f3b2c1d0e9f8a7";

    #[test]
    fn a_container_is_known_by_its_path() {
        let pod = "kubepods-burstable-pod8f6a2f10_11aa_4b6c_9f00_0123456789ab.slice";
        for (path, runtime, id) in [
            (format!("/system.slice/docker-{ID}.scope"), Runtime::Docker, ID),
            (format!("/docker/{ID}"), Runtime::Docker, ID),
            (format!("/docker/{ID}/init.scope"), Runtime::Docker, ID),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Runtime::Podman, ID),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                Runtime::Podman,
                ID,
            ),
            (format!("/libpod_parent/libpod-{ID}"), Runtime::Podman, ID),
            (
                format!("/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{ID}.scope"),
                Runtime::Containerd,
                ID,
            ),
            (format!("/kubepods.slice/{pod}/crio-{ID}.scope"), Runtime::Crio, ID),
            (format!("/kubepods/besteffort/pod8f6a2f10-11aa/{ID}"), Runtime::Kubernetes, ID),
            (
                format!("/system.slice/containerd.service/{pod}:cri-containerd:{ID}"),
                Runtime::Containerd,
                ID,
            ),
            (format!("/system.slice/nerdctl-{ID}.scope"), Runtime::Containerd, ID),
            (format!("/default/{ID}"), Runtime::Containerd, ID),
            ("/lxc/web".into(), Runtime::Lxc, "web"),
            ("/lxc.payload.web/system.slice/nginx.service".into(), Runtime::Lxc, "web"),
            (
                "/machine.slice/systemd-nspawn@my\\x2dbox.service/payload".into(),
                Runtime::Machine,
                "my-box",
            ),
            (
                "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope".into(),
                Runtime::Machine,
                "qemu-1-vm",
            ),
            // The innermost one is meant.
            (format!("/lxc.payload.web/docker/{ID}"), Runtime::Docker, ID),
        ] {
            assert_eq!(container(&path), Some(Container { runtime, id: id.to_owned() }), "{path}");
        }
    }

    #[test]
    fn a_container_has_one_cgroup_of_its_own() {
        let own = format!("/machine.slice/libpod-{ID}.scope");
        assert_eq!(container_at(&own), container(&own));
        assert!(container_at(&own).is_some());
        assert_eq!(container_at(&format!("{own}/container")), None);
        assert_eq!(container_at("/machine.slice"), None);
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/system.slice/docker-0123.scope",
            "/lxc.monitor.web",
            "/lxc",
            "/kubepods",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/crio-conmon-{ID}.scope"),
            &format!("/somewhere/{ID}"),
            "/user.slice/user-1000.slice/session-3.scope",
        ] {
            assert_eq!(container(path), None, "{path}");
        }
    }

    #[test]
    fn the_innermost_unit_owns_a_cgroup() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/worker", Some("nginx.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
                Some("app-x.scope"),
            ),
            ("/user.slice/user-1000.slice", None),
            ("/", None),
        ] {
            assert_eq!(unit(path).as_deref(), expected, "{path}");
        }
    }
}
