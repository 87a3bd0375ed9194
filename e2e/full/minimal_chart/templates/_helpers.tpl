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
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Called with (dict "root" $ "image" VALUES). */}}
{{- define "confcom.image" -}}
image: {{ printf "%s%s:%s" (empty .image.registry | ternary "" (print .image.registry "/")) .image.repository (.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* What every container has; each adds its user and its exceptions. */}}
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
