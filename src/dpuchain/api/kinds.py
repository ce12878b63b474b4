"""One constant a kind: how each is addressed, and which struct its objects decode to."""

from __future__ import annotations

from dpuchain.api import chain, fleet, interface, kubernetes, service
from dpuchain.api.names import OPERATOR_GROUP, PROVISIONING_GROUP, SERVICE_GROUP, VERSION
from dpuchain.api.resource import Resource

DPU_SERVICE_CHAIN = Resource(SERVICE_GROUP, VERSION, "DPUServiceChain", "dpuservicechains", chain.DPUServiceChain)
DPU_SERVICE_INTERFACE = Resource(SERVICE_GROUP, VERSION, "DPUServiceInterface", "dpuserviceinterfaces", interface.DPUServiceInterface)
DPU_SERVICE = Resource(SERVICE_GROUP, VERSION, "DPUService", "dpuservices", service.DPUService)
SERVICE_CHAIN_SET = Resource(SERVICE_GROUP, VERSION, "ServiceChainSet", "servicechainsets", chain.ServiceChainSet)
SERVICE_INTERFACE_SET = Resource(SERVICE_GROUP, VERSION, "ServiceInterfaceSet", "serviceinterfacesets", interface.ServiceInterfaceSet)
SERVICE_CHAIN = Resource(SERVICE_GROUP, VERSION, "ServiceChain", "servicechains", chain.ServiceChain)
SERVICE_INTERFACE = Resource(SERVICE_GROUP, VERSION, "ServiceInterface", "serviceinterfaces", interface.ServiceInterface)
DPU_SERVICE_METADATA = Resource(SERVICE_GROUP, VERSION, "DPUService", "dpuservices", kubernetes.Metadata)
DPU_CLUSTER = Resource(PROVISIONING_GROUP, VERSION, "DPUCluster", "dpuclusters", fleet.DPUCluster)
DPF_OPERATOR_CONFIG = Resource(OPERATOR_GROUP, VERSION, "DPFOperatorConfig", "dpfoperatorconfigs", fleet.DPFOperatorConfig)

NODE = Resource("", "v1", "Node", "nodes", kubernetes.Metadata, namespaced=False)
NODE_STATUS = Resource("", "v1", "Node", "nodes", kubernetes.Node, namespaced=False)
NAMESPACE = Resource("", "v1", "Namespace", "namespaces", kubernetes.Metadata, namespaced=False)
POD = Resource("", "v1", "Pod", "pods", kubernetes.Pod)
AGENT_SETTINGS = Resource("", "v1", "ConfigMap", "configmaps", fleet.AgentSettings)
SECRET = Resource("", "v1", "Secret", "secrets", kubernetes.Secret)
SECRET_METADATA = Resource("", "v1", "Secret", "secrets", kubernetes.Metadata)
EVENT = Resource("", "v1", "Event", "events", kubernetes.Event)
DAEMON_SET = Resource("apps", "v1", "DaemonSet", "daemonsets", kubernetes.DaemonSet)
LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases", kubernetes.Lease)
VALIDATING_WEBHOOK_CONFIGURATION = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    kubernetes.Metadata,
    namespaced=False,
)
NETWORK_ATTACHMENT_DEFINITION = Resource(
    "k8s.cni.cncf.io",
    "v1",
    "NetworkAttachmentDefinition",
    "network-attachment-definitions",
    kubernetes.Metadata,
)
