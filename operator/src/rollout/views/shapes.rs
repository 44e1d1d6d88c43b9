//! How each kind of object is named and linked.

use aviary_crds::{CANARY_OF_LABEL, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::store::{By, Links, Packing, Shape};
use super::{Allowing, Guarded, NamespaceSeen, PodSeen, What, lacks};
use crate::key::Key;
use crate::mesh;

pub(super) const ROLLOUTS: Shape<Guarded> = Shape {
    key: |rollout| {
        let metadata = rollout.metadata();
        Key::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    },
    links: |rollout| {
        let Ok(rollout) = &rollout.0 else {
            return Vec::new();
        };
        let key = Key::of(&**rollout);
        vec![
            (By::Deployment, key.beside(&rollout.spec.target_ref.name)),
            (By::Service, key.beside(&rollout.spec.service.name)),
            (By::Namespace, lacks::of_namespace(&key.namespace)),
        ]
    },
    packing: None,
};

pub(super) const ORIGINALS: Shape<DynamicObject> = Shape {
    key: Key::of,
    links: |original| {
        let key = Key::of(original);
        let volumes = original.data.pointer("/spec/template/spec/volumes");
        let volumes = volumes.and_then(|volumes| volumes.as_array());
        let claims = volumes.into_iter().flatten().filter_map(|volume| {
            let claim = volume["persistentVolumeClaim"]["claimName"].as_str()?;
            Some((By::Claim, key.beside(claim)))
        });
        claims.chain(labelled(original, ROLLOUT_LABEL)).collect()
    },
    packing: Packing::JSON,
};

pub(super) const UNADOPTED: Shape<Key> = Shape {
    key: Key::clone,
    links: |_| Vec::new(),
    packing: None,
};

pub(super) const COPIES: Shape<DynamicObject> = Shape {
    key: Key::of,
    links: |copy| labelled(copy, CANARY_OF_LABEL).collect(),
    packing: Packing::JSON,
};

pub(super) const KEPT: Shape<DynamicObject> = Shape {
    key: Key::of,
    links: |kept| labelled(kept, ROLLOUT_LABEL).collect(),
    packing: Packing::JSON,
};

pub(super) const REPLICA_SETS: Shape<DynamicObject> = Shape {
    key: Key::of,
    links: |set| {
        let mut owners = set.owner_references().iter();
        let owner = owners.find(|owner| owner.controller == Some(true));
        owner
            .map(|owner| (By::Deployment, Key::of(set).beside(&owner.name)))
            .into_iter()
            .collect()
    },
    packing: Packing::JSON,
};

pub(super) const PODS: Shape<PodSeen> = Shape {
    key: |pod| pod.key.clone(),
    links: |pod| {
        let link = |by: By, name: &str| (by, pod.key.beside(name));
        let set = pod.replica_set.iter().map(|set| link(By::ReplicaSet, set));
        let revision = pod.revision.iter().flat_map(|revision| {
            let unmeshed = pod.is_unmeshed().then(|| link(By::Unmeshed, revision));
            [link(By::Revision, revision)].into_iter().chain(unmeshed)
        });
        let lacks = pod.lacks.iter().map(|lacks| {
            let by = match lacks.what {
                What::Sidecar => By::Bare,
                What::Asked | What::Newer => By::Lacks,
            };
            (by, lacks::of_namespace(&pod.key.namespace))
        });
        let namespace = (By::Namespace, lacks::of_namespace(&pod.key.namespace));
        let links = set.chain(revision).chain(lacks);
        links.chain([namespace]).collect()
    },
    packing: None,
};

pub(super) const SERVICES: Shape<Service> = Shape {
    key: Key::of,
    links: |_| Vec::new(),
    packing: Packing::JSON,
};

pub(super) const SLICES: Shape<EndpointSlice> = Shape {
    key: Key::of,
    links: |slice| {
        let service = mesh::service_of(slice);
        let pods = mesh::pods_of(slice).map(|pod| (By::Pod, pod));
        service
            .map(|key| (By::Service, key))
            .into_iter()
            .chain(pods)
            .collect()
    },
    packing: Packing::JSON,
};

pub(super) const CLAIMS: Shape<PersistentVolumeClaim> = Shape {
    key: Key::of,
    links: |_| Vec::new(),
    packing: Packing::JSON,
};

pub(super) const POLICIES: Shape<Allowing> = Shape {
    key: |policy| policy.key.clone(),
    links: |policy| vec![(By::Namespace, lacks::of_namespace(&policy.key.namespace))],
    packing: None,
};

pub(super) const FREEZES: Shape<ConfigMap> = Shape {
    key: Key::of,
    links: |_| Vec::new(),
    packing: None,
};

pub(super) const NAMESPACES: Shape<NamespaceSeen> = Shape {
    key: |namespace| namespace.key.clone(),
    links: |_| Vec::new(),
    packing: None,
};

fn labelled(object: &DynamicObject, label: &str) -> impl Iterator<Item = (By, Key)> {
    let rollout = object.labels().get(label);
    let link = rollout.map(|rollout| (By::Rollout, Key::of(object).beside(rollout)));
    Links::from_iter(link).into_iter()
}
