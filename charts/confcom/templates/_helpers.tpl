{{/* Called with (dict "root" $ "component" NAME). */}}
{{- define "confcom.labels" -}}
{{ include "confcom.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "confcom.selector" -}}
app.kubernetes.io/name: confcom
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end }}

{{/* The platforms that have nodes, according to the values: a list, for fromYamlArray. */}}
{{- define "confcom.platforms" -}}
{{- if .Values.simulated.enabled }}
- simulated
{{- end }}
{{- if or (not .Values.simulated.enabled) .Values.simulated.besideHardware }}
- hardware
{{- end }}
{{- end }}

{{/* The name of a daemon on a platform; called with (dict "root" $ "platform" NAME "daemon" NAME).
Beside hardware, daemons of simulated nodes have another name, so hardware daemons keep their names when simulated nodes
join. */}}
{{- define "confcom.daemon" -}}
{{ .daemon }}{{ if and .root.Values.simulated.besideHardware (eq .platform "simulated") }}-simulated{{ end }}
{{- end }}

{{/* The names of all daemons: a list, for fromYamlArray. */}}
{{- define "confcom.daemons" -}}
{{- $quoting := include "confcom.helperPlatforms" . | fromJsonArray }}
{{- range $platform := include "confcom.platforms" . | fromYamlArray }}
- {{ include "confcom.daemon" (dict "root" $ "platform" $platform "daemon" "device-plugin") }}
{{- if has $platform $quoting }}
- {{ include "confcom.daemon" (dict "root" $ "platform" $platform "daemon" "quote-helper") }}
{{- end }}
{{- end }}
{{- end }}

{{/* The name of one of the plugin's resources; called with (dict "root" $ "platform" NAME "kind" NAME).
The reason why names for simulated nodes differ beside hardware: docs/adr, "Simulated nodes beside hardware". */}}
{{- define "confcom.resource" -}}
{{- if and .root.Values.simulated.besideHardware (eq .platform "simulated") -}}
{{ get (dict
  "epc" "simulated.confcom.internal/sgx_epc_mem_in_MiB"
  "enclave" "simulated.confcom.internal/enclave"
  "provision" "simulated.confcom.internal/provision"
  "helper" "simulated.confcom.internal/quote_helper_epc_mem_in_MiB"
) .kind }}
{{- else -}}
{{ get (dict
  "epc" "kubernetes.azure.com/sgx_epc_mem_in_MiB"
  "enclave" "sgx.intel.com/enclave"
  "provision" "sgx.intel.com/provision"
  "helper" "confcom.internal/quote_helper_epc_mem_in_MiB"
) .kind }}
{{- end }}
{{- end }}

{{/* Scheduling and update strategy of daemons' Pods; called with (dict "root" $ "platform" NAME "values" VALUES). */}}
{{- define "confcom.placement" -}}
{{- $affinity := deepCopy .values.affinity }}
{{- if eq .platform "simulated" }}
nodeSelector: {{- toYaml .root.Values.simulated.nodeSelector | nindent 2 }}
{{- else if .root.Values.nodeSelectorTerms }}
{{- $required := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" .root.Values.nodeSelectorTerms) }}
{{- $affinity = mergeOverwrite $affinity (dict "nodeAffinity" $required) }}
{{- else }}
nodeSelector: {{- toYaml .root.Values.nodeSelector | nindent 2 }}
{{- end }}
{{- with $affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .root.Values.tolerations .values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* A rollout updates one node at a time.
The new Pod must be ready before the old one ends, so a rollout whose new Pod does not become ready stops while the old
Pod still serves. */}}
{{- define "confcom.updateStrategy" -}}
type: RollingUpdate
rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
{{- end }}

{{/* Called with (dict "root" $ "image" VALUES).
If an image has a digest, the digest selects the image, and a tag has no effect. The digests of a release have an effect
only on images without a tag and a digest of their own. Only aesmd's image has its own registry and tag. */}}
{{- define "confcom.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry }}
{{- $tag := hasKey .image "tag" | ternary .image.tag .root.Values.image.tag }}
{{- $digest := .image.digest }}
{{- if not (or $tag $digest) }}{{ $digest = get .root.Values.image.digests .image.repository }}{{ end }}
{{- if not (or $tag $digest) }}{{ $tag = .root.Chart.AppVersion }}{{ end -}}
image: {{ print (empty $registry | ternary "" (print $registry "/")) .image.repository (empty $tag | ternary "" (print ":" $tag)) (empty $digest | ternary "" (print "@" $digest)) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError # `kubectl describe pod` shows why it ended
{{- end }}

{{/* Security settings of every container; each container adds its user and exceptions. */}}
{{- define "confcom.hardening" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "confcom.probes" -}}
ports:
- {name: probes, containerPort: 8080}
livenessProbe:
  httpGet: {path: /livez, port: probes}
  periodSeconds: 10
  timeoutSeconds: 5 # busy is not dead
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- define "confcom.scrape" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "8080"
prometheus.io/path: /metrics
{{- end }}
