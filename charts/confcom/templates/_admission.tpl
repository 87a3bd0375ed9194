{{/* What the API server can do decides whether Pods are rewritten, and how EPC can be counted. `helm template` knows of no
API server: there, values decide. */}}

{{/* "true" if rendered against an API server. Offline, helm lists built-in group versions, but no kinds of the group v1. */}}
{{- define "confcom.live" -}}
{{ .Capabilities.APIVersions.Has "v1/Pod" }}
{{- end }}

{{/* The version of the API server, as in 1.36; empty if nothing tells it. */}}
{{- define "confcom.apiServer" -}}
{{- if .Values.devicePlugin.apiServer -}}
{{ .Values.devicePlugin.apiServer }}
{{- else if include "confcom.live" . | eq "true" -}}
{{ printf "%s.%s" .Capabilities.KubeVersion.Major (regexFind "^[0-9]+" .Capabilities.KubeVersion.Minor) }}
{{- end }}
{{- end }}

{{/* "auto", "on" or "off": YAML takes the last two for booleans where they are not in quotes. */}}
{{- define "confcom.mutateSetting" -}}
{{- $set := .Values.admission.mutate -}}
{{- if kindIs "bool" $set }}{{ $set | ternary "on" "off" }}{{ else }}{{ $set }}{{ end }}
{{- end }}

{{/* "true" if the API server has MutatingAdmissionPolicy v1. The group version alone does not tell: 1.35 has it without
this kind. */}}
{{- define "confcom.hasMutatingPolicies" -}}
{{ .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- end }}

{{/* "true" if the API server is known to be too old for MutatingAdmissionPolicy v1, which came with 1.36. */}}
{{- define "confcom.apiServerTooOld" -}}
{{- $version := include "confcom.apiServer" . -}}
{{- if empty $version -}}
false
{{- else -}}
{{ semverCompare "<1.36" $version }}
{{- end }}
{{- end }}

{{/* "on" or "off": whether a MutatingAdmissionPolicy is installed. */}}
{{- define "confcom.mutatingAdmission" -}}
{{- $set := include "confcom.mutateSetting" . -}}
{{- if ne $set "auto" -}}
{{ $set }}
{{- else if include "confcom.live" . | eq "true" -}}
{{ include "confcom.hasMutatingPolicies" . | eq "true" | ternary "on" "off" }}
{{- else if include "confcom.apiServer" . | empty -}}
off
{{- else -}}
{{ include "confcom.apiServerTooOld" . | eq "true" | ternary "off" "on" }}
{{- end }}
{{- end }}

{{/* Whether EPC can be node capacity: "supported", or the first reason against it. It needs the policy, which adds the
enclave device to what asks for EPC, and the controller, which writes the capacity. */}}
{{- define "confcom.capacitySupport" -}}
{{- if include "confcom.apiServerTooOld" . | eq "true" -}}
api-server
{{- else if and (include "confcom.apiServer" . | empty) (include "confcom.mutateSetting" . | eq "on" | not) -}}
offline
{{- else if include "confcom.mutatingAdmission" . | eq "off" -}}
policy-off
{{- else if .Values.controller | default dict | dig "enabled" true | not -}}
controller-off
{{- else -}}
supported
{{- end }}
{{- end }}
