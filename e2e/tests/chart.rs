//! The chart, rendered: what it asks of a cluster, and what it must never ask. Needs helm, in `SAMARA_TOOLS` or on the
//! `PATH`; without it the tests say that they were skipped, and fail under `CI=true`.

mod helm;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use helm::{KUBE_VERSION, chart, helm, run};
use serde::Deserialize;
use serde_json::{Value, json};

const NAMESPACE: &str = "samara-test";

fn render(helm: &Path, values: &Value) -> Result<Vec<Value>, String> {
    helm::render(helm, NAMESPACE, values)
}

fn render_for(helm: &Path, values: &Value, version: &str) -> Result<Vec<Value>, String> {
    helm::render_for(helm, NAMESPACE, values, version)
}

fn defaults(helm: &Path) -> Vec<Value> {
    render(helm, &json!({})).expect("the chart renders with no values")
}

/// Every combination of the switches, each with what it stands for.
fn combinations() -> Vec<Value> {
    let two = json!([
        {"name": "default", "root": "/var/lib/samara", "sidecar": {"nodeSelector": {"pool": "a"}},
         "network": {"hostNetwork": true}, "images": {"enabled": true, "registries": ["docker.io", "*.example.com:5000"]}},
        {"name": "fast", "root": "/mnt/nvme/samara", "quota": "500Gi", "trackers": {"replicas": 3, "port": 7000},
         "origin": {"allow": ["127.0.0.0/8"], "deny": ["*.example.com"], "plainHTTP": ["registry.lan"]}, "network": {"hostNetwork": false},
         "sidecar": {"nodeSelector": {"pool": "b"}, "seLinuxOptions": {"type": "spc_t"}}},
    ]);
    let switches: [(&str, Value); 7] = [
        ("network", json!({"hostNetwork": false})),
        ("crds", json!({"manage": false})),
        ("uninstall", json!({"hook": false})),
        ("namespace", json!({"create": true})),
        ("classes", two),
        (
            "image",
            json!({"digest": format!("sha256:{}", "0".repeat(64)), "pullSecrets": [{"name": "regcred"}]}),
        ),
        (
            "operator",
            json!({
                "priorityClassName": "system-cluster-critical", "env": [{"name": "A", "value": "b"}],
                "pullSecretNamespaces": ["models"],
            }),
        ),
    ];
    (0..1_u32 << switches.len())
        .map(|mask| {
            let chosen = switches.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
            Value::Object(chosen.map(|(_, (key, value))| ((*key).to_owned(), value.clone())).collect())
        })
        .collect()
}

fn of_kind<'a>(documents: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |document| document["kind"] == kind)
}

fn named<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found =
        documents.iter().find(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    assert!(found.is_some(), "no {kind} {name}");
    found.unwrap_or(&Value::Null)
}

/// The pod templates, each with the name of its owner.
fn pods(documents: &[Value]) -> Vec<(String, &Value)> {
    documents
        .iter()
        .filter(|document| document["spec"]["template"]["spec"].is_object())
        .map(|document| {
            (
                format!("{} {}", document["kind"], document["metadata"]["name"]),
                &document["spec"]["template"]["spec"],
            )
        })
        .collect()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn lint_has_nothing_to_say() {
    let Some(helm) = helm() else { return };
    let output =
        run(&helm, &["lint", "--strict", "--kube-version", KUBE_VERSION, &chart().to_string_lossy()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
}

#[test]
fn every_combination_of_values_renders_and_keeps_the_names_that_daemons_rely_on() {
    let Some(helm) = helm() else { return };
    for values in combinations() {
        let documents = render(&helm, &values).unwrap_or_else(|error| panic!("{values}: {error}"));
        named(&documents, "Service", "samara-operator");
        named(&documents, "ServiceAccount", "samara-sidecar");
        let classes = of_kind(&documents, "DistributionClass").count();
        assert_eq!(classes, of_kind(&documents, "DaemonSet").count(), "{values}");
        assert_eq!(
            of_kind(&documents, "Job").count(),
            usize::from(values["uninstall"].is_null()),
            "{values}"
        );
        let mut seen = BTreeSet::new();
        for document in &documents {
            let name = document["metadata"]["name"].to_string();
            assert!(seen.insert((document["kind"].to_string(), name.clone())), "{values}: {name} twice");
        }
    }
}

#[test]
fn kubernetes_before_1_30_is_refused() {
    let Some(helm) = helm() else { return };
    let error =
        render_for(&helm, &json!({}), "1.29.9").expect_err("1.29 has no ValidatingAdmissionPolicy v1");
    assert!(error.contains(">=1.30.0-0"), "{error}");
    render_for(&helm, &json!({}), "1.30.0").expect("1.30");
    render_for(&helm, &json!({}), "1.31.1-gke.1000").expect("a vendor's version");
}

#[test]
fn t118_no_role_can_do_more_than_it_names() {
    let Some(helm) = helm() else { return };
    for values in combinations() {
        let documents = render(&helm, &values).expect("it renders");
        for kind in ["ClusterRole", "Role"] {
            for role in of_kind(&documents, kind) {
                for rule in role["rules"].as_array().expect("rules") {
                    let (verbs, resources, groups) =
                        (list(&rule["verbs"]), list(&rule["resources"]), list(&rule["apiGroups"]));
                    let text = rule.to_string();
                    assert!(!text.contains('*'), "a wildcard: {text}");
                    for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
                        assert!(!verbs.contains(&verb), "{verb}: {text}");
                    }
                    for resource in [
                        "pods/exec",
                        "pods/attach",
                        "pods/portforward",
                        "serviceaccounts/token",
                        "nodes/proxy",
                    ] {
                        assert!(!resources.contains(&resource), "{resource}: {text}");
                    }
                    assert!(!groups.contains(&"rbac.authorization.k8s.io"), "{text}");
                    if resources.contains(&"secrets") {
                        // Bound in single namespaces only: see below.
                        let by_namespace =
                            role["metadata"]["name"] == "samara-pull-secrets" && verbs == ["get"];
                        assert!(kind == "Role" || by_namespace, "secrets of the whole cluster: {text}");
                        assert!(!verbs.contains(&"list") && !verbs.contains(&"watch"), "{text}");
                        assert!(
                            !verbs.contains(&"update") || rule["resourceNames"].is_array(),
                            "any Secret: {text}"
                        );
                    }
                    if resources.contains(&"nodes") || resources.contains(&"pods") {
                        assert!(verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb)), "{text}");
                    }
                }
            }
        }
    }
}

/// `verb resource`, sorted, of all rules of a role.
fn rights(role: &Value) -> Vec<String> {
    let mut can = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        for resource in list(&rule["resources"]) {
            can.extend(list(&rule["verbs"]).iter().map(|verb| format!("{resource}: {verb}")));
        }
    }
    can.into_iter().collect()
}

#[test]
fn t117_a_sidecar_may_do_this_and_nothing_else() {
    let Some(helm) = helm() else { return };
    let documents = defaults(&helm);
    let golden = [
        "distributionclasses: get",
        "distributionclasses: list",
        "distributionclasses: watch",
        "distributionrevisions: get",
        "distributionrevisions: list",
        "distributionrevisions: watch",
        "nodedistributions/status: patch",
        "nodedistributions: create",
        "nodedistributions: get",
        "nodedistributions: patch",
        "nodes: get",
        "nodes: list",
        "nodes: watch",
    ];
    assert_eq!(rights(named(&documents, "ClusterRole", "samara-sidecar")), golden);
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        let bindings = of_kind(&documents, kind)
            .filter(|binding| binding["subjects"].to_string().contains("samara-sidecar"));
        assert_eq!(bindings.count(), usize::from(kind == "ClusterRoleBinding"));
    }
}

#[test]
fn t118_what_the_operator_may_write() {
    let Some(helm) = helm() else { return };
    let documents = defaults(&helm);
    let reads = [": get", ": list", ": watch"];
    let writes = |kind: &str| -> Vec<String> {
        let rights = rights(named(&documents, kind, "samara-operator")).into_iter();
        rights.filter(|right| !reads.iter().any(|read| right.ends_with(read))).collect()
    };
    let everywhere = [
        "customresourcedefinitions: patch",
        "distributionclasses/finalizers: update",
        "distributionclasses/status: update",
        "distributionclasses: patch",
        "distributionrevisions: create",
        "distributionrevisions: delete",
        "distributionrevisions: update",
        "distributions/status: update",
        "distributions: patch",
        "events: create",
        "tokenreviews: create",
    ];
    assert_eq!(writes("ClusterRole"), everywhere);
    let at_home = [
        "deployments: create",
        "deployments: delete",
        "deployments: patch",
        "leases: create",
        "leases: update",
        "secrets: create",
        "secrets: update",
        "services: create",
        "services: delete",
        "services: patch",
    ];
    assert_eq!(writes("Role"), at_home);
}

#[test]
fn t107_pull_secrets_are_read_only_where_a_namespace_says_so() {
    let Some(helm) = helm() else { return };
    let bindings = |values: &Value| -> Vec<(String, String)> {
        let documents = render(&helm, values).expect("it renders");
        let bound = documents.iter().filter(|binding| binding["roleRef"]["name"] == "samara-pull-secrets");
        let place = |binding: &Value| {
            assert_eq!(binding["subjects"].as_array().map(Vec::len), Some(1));
            assert_eq!(binding["subjects"][0]["name"], "samara-operator");
            (binding["kind"].to_string(), binding["metadata"]["namespace"].to_string())
        };
        bound.map(place).collect()
    };
    assert_eq!(bindings(&json!({})), []);
    let named = json!({"operator": {"pullSecretNamespaces": ["models", "apps"]}});
    let of = |namespace: &str| ("\"RoleBinding\"".to_owned(), format!("{namespace:?}"));
    assert_eq!(bindings(&named), [of("models"), of("apps")]);
}

#[test]
fn t120_no_pod_asks_for_more_than_its_work_needs() {
    let Some(helm) = helm() else { return };
    for values in combinations() {
        let documents = render(&helm, &values).expect("it renders");
        let roots: Vec<&str> = of_kind(&documents, "DistributionClass")
            .filter_map(|class| class["spec"]["root"].as_str())
            .collect();
        for (owner, pod) in pods(&documents) {
            let sidecar = owner.contains("DaemonSet");
            for key in ["hostPID", "hostIPC", "shareProcessNamespace"] {
                assert!(pod[key].is_null(), "{owner} {key}");
            }
            assert!(sidecar || pod["hostNetwork"].is_null(), "{owner} is on the host network");
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                if let Some(path) = volume["hostPath"]["path"].as_str() {
                    let args = list(&pod["containers"][0]["args"]);
                    let content = "/var/lib/containerd/io.containerd.content.v1.content";
                    let images = args.iter().any(|arg| arg.starts_with("--mirror-port="))
                        && ["/etc/containerd", "/etc/docker", "/run/containerd", content].contains(&path);
                    assert!(sidecar && (images || roots.contains(&path)), "{owner} mounts {path}");
                    assert_eq!(volume["hostPath"]["type"], "DirectoryOrCreate");
                }
            }
            assert!(pod["initContainers"].is_null(), "{owner}");
            for container in pod["containers"].as_array().expect("containers") {
                let context = &container["securityContext"];
                assert!(context["privileged"].is_null(), "{owner}");
                assert_eq!(context["allowPrivilegeEscalation"], false, "{owner}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{owner}");
                assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{owner}");
                assert_eq!(list(&context["capabilities"]["drop"]), ["ALL"], "{owner}");
                assert!(context["capabilities"]["add"].is_null(), "{owner}");
                assert!(sidecar || context["runAsNonRoot"] == true, "{owner}");
            }
        }
    }
}

#[test]
fn t120_the_host_network_is_the_sidecars_and_can_be_left() {
    let Some(helm) = helm() else { return };
    let on = defaults(&helm);
    let off = render(&helm, &json!({"network": {"hostNetwork": false}})).expect("it renders");
    let images = json!({"network": {"hostNetwork": false}, "images": {"enabled": true}});
    let error = render(&helm, &images).expect_err("the mirror needs the node's loopback");
    assert!(error.contains("images.enabled needs network.hostNetwork"), "{error}");
    let (on, off) = (sidecar_pod(&on, "default"), sidecar_pod(&off, "default"));
    assert_eq!(on["hostNetwork"], true);
    assert_eq!(on["dnsPolicy"], "ClusterFirstWithHostNet");
    assert!(list(&on["containers"][0]["args"]).contains(&"--listen-health=127.0.0.1:6882"));
    assert_eq!(on["containers"][0]["livenessProbe"]["httpGet"]["host"], "127.0.0.1");
    assert!(off["hostNetwork"].is_null() && off["dnsPolicy"].is_null());
    assert!(off["containers"][0]["livenessProbe"]["httpGet"]["host"].is_null());
}

#[test]
fn images_on_demand_take_one_value_more_and_are_off_without() {
    let Some(helm) = helm() else { return };
    let on = json!({"images": {"enabled": true, "registries": ["docker.io"]}});
    let on = render(&helm, &on).expect("it renders");
    let runtime = &named(&on, "DistributionClass", "default")["spec"]["runtime"];
    assert_eq!(runtime, &json!({"registries": ["docker.io"], "cache": "10Gi"}));
    let off = render(&helm, &json!({"images": {"enabled": true}})).expect("it renders");
    assert!(named(&off, "DistributionClass", "default")["spec"]["runtime"].is_null());
    let alone = render(&helm, &json!({"images": {"registries": ["docker.io"]}}));
    assert!(alone.expect_err("there is no mirror").contains("images.registries needs images.enabled"));
}

fn sidecar_pod<'a>(documents: &'a [Value], class: &str) -> &'a Value {
    &named(documents, "DaemonSet", &format!("samara-sidecar-{class}"))["spec"]["template"]["spec"]
}

#[test]
fn t122_the_chart_brings_no_secret() {
    let Some(helm) = helm() else { return };
    for values in combinations() {
        let documents = render(&helm, &values).expect("it renders");
        assert_eq!(of_kind(&documents, "Secret").count() + of_kind(&documents, "ConfigMap").count(), 0);
        for document in &documents {
            let text = document.to_string();
            assert!(!text.contains("-----BEGIN") && !text.contains("password"), "{text}");
        }
    }
}

#[test]
fn the_uninstall_hook_goes_where_the_operator_is_and_leaves_a_dead_node_as_it_does() {
    let Some(helm) = helm() else { return };
    let documents = defaults(&helm);
    let operator = of_kind(&documents, "Deployment").next().expect("there is one");
    let hook = of_kind(&documents, "Job").next().expect("there is one");
    let affinity = &hook["spec"]["template"]["spec"]["affinity"]["podAffinity"];
    let term = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(term["labelSelector"]["matchLabels"], operator["spec"]["selector"]["matchLabels"]);
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    let tolerations = |kind| {
        let found = of_kind(&documents, kind).next().expect("there is one");
        found["spec"]["template"]["spec"]["tolerations"].clone()
    };
    assert_eq!(tolerations("Job"), tolerations("Deployment"));
    assert!(
        tolerations("Job").as_array().is_some_and(|all| all.iter().all(|one| one["tolerationSeconds"] == 10))
    );
}

#[test]
fn the_sidecar_is_as_the_design_wants_it() {
    let Some(helm) = helm() else { return };
    let documents = defaults(&helm);
    let pod = sidecar_pod(&documents, "default");
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    let container = &pod["containers"][0];
    let probe = &container["livenessProbe"];
    assert_eq!((&probe["periodSeconds"], &probe["failureThreshold"]), (&json!(5), &json!(3)));
    for port in container["ports"].as_array().expect("ports") {
        assert!(port["containerPort"].as_i64().expect("a number") < 30_000);
    }
    let roots = container["volumeMounts"].as_array().expect("mounts").iter();
    assert_eq!(roots.filter(|mount| mount["name"] == "root").count(), 1, "rename and link need one mount");
    let token = &pod["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "samara.dev");
    let env: Vec<&str> =
        container["env"].as_array().expect("env").iter().filter_map(|e| e["name"].as_str()).collect();
    assert!(env.contains(&"NODE_NAME"), "{env:?}");
}

#[test]
fn t120_only_sidecars_that_handle_images_see_the_container_runtime() {
    let Some(helm) = helm() else { return };
    let off = defaults(&helm);
    let on = render(&helm, &json!({"images": {"enabled": true}})).expect("it renders");
    let theirs = json!({"images": {"enabled": true, "configure": "None", "mirrorPort": 7000, "hostPaths": ["/run/k3s"], "contentStore": ""}});
    let theirs = render(&helm, &theirs).expect("it renders");
    let paths = |documents: &[Value]| {
        let pod = sidecar_pod(documents, "default");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
        let host = mounts
            .iter()
            .filter(|mount| mount["mountPath"].as_str().is_some_and(|at| at.starts_with("/host")));
        host.map(|mount| (mount["mountPath"].clone(), mount["readOnly"] == true)).collect::<Vec<_>>()
    };
    assert!(paths(&off).is_empty());
    // containerd 2.2 looks for hosts files below both of the first.
    let expected = ["/host/etc/containerd", "/host/etc/docker", "/host/run/containerd"];
    let content = (json!("/host/var/lib/containerd/io.containerd.content.v1.content"), true);
    let expected = expected.map(|path| (json!(path), false)).into_iter().chain([content]);
    assert_eq!(paths(&on), expected.collect::<Vec<_>>());
    assert!(
        list(&sidecar_pod(&on, "default")["containers"][0]["args"]).contains(&"--content-store=IfMounted")
    );
    assert_eq!(paths(&theirs), [(json!("/host/run/k3s"), true)]);
    let args = list(&sidecar_pod(&theirs, "default")["containers"][0]["args"]);
    for arg in ["--mirror-port=7000", "--configure-runtime=None", "--content-store=Never"] {
        assert!(args.contains(&arg), "{args:?}");
    }
}

#[test]
fn the_operator_is_told_what_the_values_say() {
    let Some(helm) = helm() else { return };
    let values = json!({"crds": {"manage": false}, "image": {"tag": "1.2", "pullSecrets": [{"name": "a"}, {"name": "b"}]}});
    let documents = render(&helm, &values).expect("it renders");
    let deployment = named(&documents, "Deployment", "samara-operator");
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&json!(1), &json!("Recreate"))
    );
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let args = list(&container["args"]);
    for arg in
        ["--manage-crds=false", "--image-pull-secret=a", "--image-pull-secret=b", "--listen-api=[::]:8443"]
    {
        assert!(args.contains(&arg), "{args:?}");
    }
    let image = json!({"name": "SAMARA_IMAGE", "value": "localhost/samara:1.2"});
    assert!(container["env"].as_array().expect("env").contains(&image));
}

#[test]
fn a_class_can_differ_in_network_and_nodes() {
    let Some(helm) = helm() else { return };
    let values =
        combinations().into_iter().find(|values| values["classes"].is_array()).expect("one has two classes");
    let documents = render(&helm, &values).expect("it renders");
    let (first, second) = (sidecar_pod(&documents, "default"), sidecar_pod(&documents, "fast"));
    assert_eq!((&first["hostNetwork"], &second["hostNetwork"]), (&json!(true), &Value::Null));
    assert_eq!(second["nodeSelector"], json!({"pool": "b"}));
    assert_eq!(second["containers"][0]["securityContext"]["seLinuxOptions"]["type"], "spc_t");
    let class = named(&documents, "DistributionClass", "fast");
    assert_eq!(class["spec"]["quota"], "500Gi");
    assert_eq!(class["spec"]["trackers"]["replicas"], 3);
    assert_eq!(class["spec"]["origin"]["deny"], json!(["*.example.com"]));
}

#[test]
fn values_that_cannot_work_are_refused() {
    let Some(helm) = helm() else { return };
    let class = |key: &str, value: Value| {
        let mut class = json!({"name": "default", "root": "/var/lib/samara"});
        class[key] = value;
        json!({"classes": [class]})
    };
    let twice = json!({"name": "a", "root": "/a", "sidecar": {"nodeSelector": {"a": "b"}}});
    for (values, complaint) in [
        (json!({"nonsense": 1}), "nonsense"),
        (json!({"network": {"peerPort": 30000}}), "peerPort"),
        (json!({"network": {"peerPort": 6882}}), "same port"),
        (json!({"uninstall": {"data": "Maybe"}}), "data"),
        (json!({"images": {"enabled": true, "mirrorPort": 6881}}), "same port"),
        (json!({"images": {"hostPaths": ["etc"]}}), "hostPaths"),
        (json!({"images": {"contentStore": "var/lib"}}), "contentStore"),
        (json!({"image": {"digest": "sha256:12"}}), "digest"),
        (json!({"classes": []}), "classes"),
        (class("root", json!("relative")), "root"),
        (class("root", json!("/with space")), "root"),
        (class("name", json!("Upper")), "name"),
        (class("quota", json!("lots")), "quota"),
        (class("unknown", json!(1)), "unknown"),
        (json!({"classes": [twice.clone(), twice]}), "twice"),
        (json!({"classes": [{"name": "a", "root": "/a"}, {"name": "b", "root": "/b"}]}), "nodeSelector"),
    ] {
        let error = render(&helm, &values).expect_err(&values.to_string());
        assert!(error.contains(complaint), "{values}: {error}");
    }
}

#[test]
fn uninstalling_says_what_becomes_of_the_data() {
    let Some(helm) = helm() else { return };
    for mode in ["Keep", "Purge"] {
        let documents = render(&helm, &json!({"uninstall": {"data": mode}})).expect("it renders");
        let job = named(&documents, "Job", "samara-uninstall");
        assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
        let args = list(&job["spec"]["template"]["spec"]["containers"][0]["args"]);
        assert_eq!(args, ["retire", &format!("--mode={mode}"), "--timeout=60s", "--class=default"]);
    }
}

#[test]
fn a_sidecar_is_held_to_its_own_node_by_admission() {
    let Some(helm) = helm() else { return };
    let documents = defaults(&helm);
    let name = "samara-sidecar-writes-its-own-node";
    let policy = named(&documents, "ValidatingAdmissionPolicy", name);
    let rule = &policy["spec"]["matchConstraints"]["resourceRules"][0];
    assert_eq!(list(&rule["resources"]), ["nodedistributions", "nodedistributions/status"]);
    let condition = policy["spec"]["matchConditions"][0]["expression"].as_str().expect("CEL");
    assert!(condition.contains(&format!("system:serviceaccount:{NAMESPACE}:samara-sidecar")), "{condition}");
    let binding = named(&documents, "ValidatingAdmissionPolicyBinding", name);
    assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
}

#[test]
fn every_value_has_a_comment_and_a_schema() {
    let text = fs::read_to_string(chart().join("values.yaml")).expect("values.yaml");
    let mut commented = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let trimmed = line.trim_start();
        // Deeper keys and the items of lists are explained by what they stand in.
        let explained = line.len() - trimmed.len() > 2 || trimmed.starts_with("- ");
        assert!(trimmed.starts_with('#') || explained || commented, "no comment above: {line}");
        commented = trimmed.starts_with('#');
    }
    let values: Value = serde_yaml::from_str(&text).expect("YAML");
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).expect("schema"))
            .expect("JSON");
    for (key, value) in values.as_object().expect("an object") {
        let mut known = &schema["properties"][key];
        if let Some(name) = known["$ref"].as_str() {
            known = schema.pointer(&name[1..]).expect("the definition exists");
        }
        for inner in value.as_object().into_iter().flatten().map(|(inner, _)| inner) {
            assert!(known["properties"][inner].is_object(), "values.schema.json lacks {key}.{inner}");
        }
    }
}

#[test]
fn the_chart_brings_the_definitions_that_its_operator_may_upgrade() {
    let Some(helm) = helm() else { return };
    let mut brought = BTreeSet::new();
    for entry in fs::read_dir(chart().join("crds")).expect("crds/") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        for document in serde_yaml::Deserializer::from_str(&text).map(Value::deserialize) {
            let document = document.expect("YAML");
            assert_eq!(document["kind"], "CustomResourceDefinition");
            brought.insert(document["metadata"]["name"].as_str().expect("a name").to_owned());
        }
    }
    let documents = defaults(&helm);
    let rules =
        named(&documents, "ClusterRole", "samara-operator")["rules"].as_array().expect("rules").clone();
    let allowed =
        rules.iter().find(|rule| list(&rule["resources"]) == ["customresourcedefinitions"]).expect("a rule");
    assert_eq!(brought, list(&allowed["resourceNames"]).into_iter().map(str::to_owned).collect());
    let without = render(&helm, &json!({"crds": {"manage": false}})).expect("it renders");
    assert!(
        !named(&without, "ClusterRole", "samara-operator").to_string().contains("customresourcedefinitions")
    );
}
