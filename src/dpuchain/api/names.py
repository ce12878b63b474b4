"""The words of the API: groups, labels, annotations, finalizers, field owners, condition types and reasons.

They are DPF's where DPF has one, since operators' dashboards, scripts and manifests know them.
"""

from __future__ import annotations

SERVICE_GROUP = "svc.dpu.nvidia.com"
PROVISIONING_GROUP = "provisioning.dpu.nvidia.com"
OPERATOR_GROUP = "operator.dpu.nvidia.com"
VERSION = "v1alpha1"

OPERATOR_NAMESPACE = "dpf-operator-system"
ADMISSION_CERTIFICATES_NAME = "dpuchain-admission-certificates"
"""The Secret in the operator's namespace with the certificates that admission makes for itself."""
OPERATOR_CONFIG_NAME = "dpfoperatorconfig"
# Ours: a ConfigMap in the operator's namespace of each DPU cluster with what its agents are told.
AGENT_SETTINGS_NAME = "dpuchain-agent"

# Labels
SERVICE_LABEL = f"{SERVICE_GROUP}/service"
SERVICE_ID_LABEL = f"{SERVICE_GROUP}/service-id"
CHAIN_SET_NAME_LABEL = f"{SERVICE_GROUP}/servicechainset-name"
CHAIN_SET_NAMESPACE_LABEL = f"{SERVICE_GROUP}/servicechainset-namespace"
INTERFACE_SET_NAME_LABEL = f"{SERVICE_GROUP}/serviceinterfaceset-name"
INTERFACE_SET_NAMESPACE_LABEL = f"{SERVICE_GROUP}/serviceinterfaceset-namespace"
# Ours: which object of the host cluster a set in a DPU cluster was made from. The namespace and name are the set's own.
OWNER_UID_LABEL = "dpuchain.dpu.nvidia.com/owner-uid"
OWNER_KIND_LABEL = "dpuchain.dpu.nvidia.com/owner-kind"
# Ours: which host cluster that object is in, since several may share a DPU cluster.
HOST_LABEL = "dpuchain.dpu.nvidia.com/host"

# Annotations
CONSUMED_BY_ANNOTATION = "dpu.nvidia.com/consumed-by"
NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks"
NETWORK_STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status"
# Ours: how many nodes may be without their service at a time; for which generation of a set its cluster may begin restarts; since when a
# node's pods are being restarted; what an object was made from.
MAX_UNAVAILABLE_ANNOTATION = "dpuchain.dpu.nvidia.com/max-unavailable"
RESTART_TURN_ANNOTATION = "dpuchain.dpu.nvidia.com/restart-turn"
RESTARTING_ANNOTATION = "dpuchain.dpu.nvidia.com/restarting-since"
# Ours, on pods: the service passes frames of any Ethertype on, those of a live trace among them.
PASSES_PROBES_ANNOTATION = "dpuchain.dpu.nvidia.com/passes-probes"
# Ours, on a DPUCluster: "false" keeps the host controller from installing, upgrading or removing the chart of DPU clusters there.
INSTALL_ANNOTATION = "dpuchain.dpu.nvidia.com/install"
TEMPLATE_DIGEST_ANNOTATION = "dpuchain.dpu.nvidia.com/template-digest"
# Ours: the W3C traceparent of the write that made an object what it is. It says nothing of the object: no comparison may see it.
TRACEPARENT_ANNOTATION = "dpuchain.dpu.nvidia.com/traceparent"

NOOP_PHYSICAL_REMOVAL_ANNOTATION = f"{SERVICE_GROUP}/noop-physical-removal"

# Finalizers
DPU_SERVICE_CHAIN_FINALIZER = f"{SERVICE_GROUP}/dpuservicechain"
DPU_SERVICE_INTERFACE_FINALIZER = f"{SERVICE_GROUP}/dpuserviceinterface"
DPU_SERVICE_FINALIZER = "dpu.nvidia.com/dpuservice"
SERVICE_CHAIN_SET_FINALIZER = "dpu.nvidia.com/servicechainset"
SERVICE_INTERFACE_SET_FINALIZER = "dpu.nvidia.com/serviceinterfaceset"
SERVICE_CHAIN_FINALIZER = f"{SERVICE_GROUP}/ServiceChain-finalizer"
SERVICE_INTERFACE_FINALIZER = f"{SERVICE_GROUP}/ServiceInterface-finalizer"

# Field owners of server-side apply
HOST_FIELD_OWNER = "dpuchain-host"
DPU_FIELD_OWNER = "dpuchain-dpu"
AGENT_FIELD_OWNER = "dpuchain-agent"

# Condition types
READY = "Ready"
CHAIN_SET_RECONCILED = "ServiceChainSetReconciled"
CHAIN_SET_READY = "ServiceChainSetReady"
INTERFACE_SET_RECONCILED = "ServiceInterfaceSetReconciled"
INTERFACE_SET_READY = "ServiceInterfaceSetReady"
CHAINS_RECONCILED = "ServiceChainsReconciled"
CHAINS_READY = "ServiceChainsReady"
SERVICE_MTU_APPLIED = "ServiceMTUApplied"
INTERFACES_RECONCILED = "ServiceInterfacesReconciled"
INTERFACES_READY = "ServiceInterfacesReady"
CHAIN_RECONCILED = "ServiceChainReconciled"
INTERFACE_RECONCILED = "ServiceInterfaceReconciled"
APPLICATION_PREREQUISITES_RECONCILED = "ApplicationPrereqsReconciled"
APPLICATIONS_RECONCILED = "ApplicationsReconciled"
APPLICATIONS_READY = "ApplicationsReady"
DPU_SERVICE_INTERFACE_RECONCILED = "DPUServiceInterfaceReconciled"
CONFIG_PORTS_RECONCILED = "ConfigPortsReconciled"

# Reasons
SUCCESS = "Success"
PENDING = "Pending"
ERROR = "Error"
FAILURE = "Failure"
AWAITING_DELETION = "AwaitingDeletion"
RETRYING = "Retrying"
# Ours: something is left to do, and nothing of it can be done before somebody else does their part.
BLOCKED = "Blocked"
