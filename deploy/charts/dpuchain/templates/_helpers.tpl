{{- define "dpuchain.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "dpuchain.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* All processes keep their Leases and settings in this one namespace, which is DPF's: api/names.py. */}}
{{- define "dpuchain.namespace" -}}
{{- if ne .Release.Namespace "dpf-operator-system" }}
{{- fail (printf "dpuchain works in namespace dpf-operator-system, not in %s: helm install --namespace dpf-operator-system --create-namespace" .Release.Namespace) }}
{{- end }}
{{- end }}

{{/* What the chart of DPU clusters is installed with: the images of this chart and its choice of kinds, where nothing else is said. */}}
{{- define "dpuchain.dpuValues" -}}
{{- $own := dict "image" (deepCopy .Values.image) "imagePullSecrets" .Values.imagePullSecrets "crds" (deepCopy .Values.crds) }}
{{- mergeOverwrite $own (deepCopy .Values.dpu.values) | toYaml }}
{{- end }}

{{/* What all pods of this chart have in common. */}}
{{- define "dpuchain.pod" -}}
serviceAccountName: dpuchain-{{ .component }}
priorityClassName: {{ .root.Values.priorityClassName }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {app.kubernetes.io/instance: {{ .root.Release.Name }}, app.kubernetes.io/component: {{ .component }}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "dpuchain.container" -}}
image: {{ include "dpuchain.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml .values.resources | nindent 2 }}
ports:
- {name: health, containerPort: 9800}
- {name: metrics, containerPort: 9802}
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  failureThreshold: 30
{{- end }}

{{/* Where metrics are answered, and with which certificate: of the process's own making, or that of a Secret. */}}
{{- define "dpuchain.metricsArguments" -}}
- --metrics-address=0.0.0.0:9802
{{- if .Values.metrics.certificateSecret }}
- --metrics-certificate=/etc/dpuchain/metrics
{{- end }}
- --log-format={{ .Values.logFormat }}
{{- end }}

{{- define "dpuchain.metricsMount" -}}
{{- if .Values.metrics.certificateSecret }}
- {name: metrics, mountPath: /etc/dpuchain/metrics, readOnly: true}
{{- end }}
{{- end }}

{{- define "dpuchain.metricsVolume" -}}
{{- with .Values.metrics.certificateSecret }}
- name: metrics
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* How metrics of a process are read: with Prometheus' own token, or with that of a Secret. */}}
{{- define "dpuchain.metricsEndpoint" -}}
port: metrics
scheme: https
interval: {{ .root.Values.monitoring.interval }}
{{- with .root.Values.monitoring.tokenSecret }}
{{- if .name }}
authorization:
  type: Bearer
  credentials: {name: {{ .name }}, key: {{ .key }}}
{{- else }}
bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- end }}
{{- end }}
tlsConfig:
  {{- with .root.Values.metrics.certificateSecret }}
  ca: {secret: {name: {{ . }}, key: ca.crt}}
  serverName: dpuchain-metrics.{{ $.root.Release.Namespace }}.svc
  {{- else }}
  insecureSkipVerify: true  # each process has a certificate of its own making
  {{- end }}
relabelings:
- {targetLabel: job, replacement: dpuchain-{{ .component }}}
- {sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}
{{- end }}

{{- define "dpuchain.monitor" -}}
metadata:
  name: dpuchain-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "dpuchain.labels" .root | nindent 4 }}
    {{- with .root.Values.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The pods of a process, found by a headless Service. */}}
{{- define "dpuchain.serviceMonitor" -}}
---
apiVersion: v1
kind: Service
metadata:
  name: dpuchain-{{ .component }}-metrics
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "dpuchain.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}-metrics
spec:
  clusterIP: None
  selector: {app.kubernetes.io/instance: {{ .root.Release.Name }}, app.kubernetes.io/component: {{ .component }}}
  ports:
  - {name: metrics, port: 9802}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
{{ include "dpuchain.monitor" . }}
spec:
  selector:
    matchLabels: {app.kubernetes.io/instance: {{ .root.Release.Name }}, app.kubernetes.io/component: {{ .component }}-metrics}
  endpoints:
  - {{- include "dpuchain.metricsEndpoint" . | nindent 4 }}
{{- end }}

{{/* Traces: nowhere without an endpoint. Changes begin in this cluster, so which of them are traced is decided here. */}}
{{- define "dpuchain.tracingEnvironment" -}}
{{- with .Values.tracing.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_TRACES_SAMPLER, value: parentbased_traceidratio}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ $.Values.tracing.sampleRatio | quote }}}
{{- end }}
{{- end }}
