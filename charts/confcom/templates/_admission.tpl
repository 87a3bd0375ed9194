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

{{/* The names by which containers ask, as the plugins of all platforms offer them: a JSON list of {epc, enclave, provision, bytes}.
"bytes" is the other name of the same memory, or empty: what asks by Intel's name asks for hardware, where there is some. */}}
{{- define "confcom.epcNames" -}}
{{- $names := list }}
{{- $platforms := include "confcom.platforms" . | fromYamlArray }}
{{- range $platform := $platforms }}
{{- $one := dict "bytes" (eq $platform (last $platforms) | ternary "sgx.intel.com/epc" "") }}
{{- range $kind := list "epc" "enclave" "provision" }}
{{- $one = set $one $kind (include "confcom.resource" (dict "root" $ "platform" $platform "kind" $kind)) }}
{{- end }}
{{- $names = append $names $one }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{/* CEL: whether the request's namespace may ask for the provision device. */}}
{{- define "confcom.mayProvision" -}}
{{- if .Values.provision.policy -}}
request.namespace in {{ prepend .Values.provision.namespaces .Release.Namespace | toJson }}
{{- else -}}
true
{{- end }}
{{- end }}

{{/* More MiB than any node may have: who asks for more meant another unit. */}}
{{- define "confcom.mostEpcMiB" -}}
{{ .Values.controller | default dict | dig "maxEpcMiBPerNode" 1048576 | int64 }}
{{- end }}

{{/* What policies about Pods and their templates look at. A template that an update does not change is not looked at again:
otherwise controllers could not scale down, nor the garbage collector remove, what is older than the policies. */}}
{{- define "confcom.podsAndTemplates" -}}
namespaceSelector:
  matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: NotIn, values: [{{ .Release.Namespace | quote }}]}
resourceRules:
- {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced} # a Pod's limits stay
- {apiGroups: [batch], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [jobs, cronjobs], scope: Namespaced}
- apiGroups: [apps]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  scope: Namespaced
{{- end }}

{{- define "confcom.templateChanged" -}}
- name: template-changed
  expression: >-
    request.operation == "CREATE" || dyn(object).spec.?template != dyn(oldObject).spec.?template
    || dyn(object).spec.?jobTemplate != dyn(oldObject).spec.?jobTemplate
{{- end }}

{{/* CEL variables: the Pod or the template, and its containers with limits. */}}
{{- define "confcom.podVariables" -}}
- name: pod
  expression: >-
    object.kind == "Pod" ? dyn(object) : object.kind == "CronJob" ? dyn(object).spec.jobTemplate.spec.template : dyn(object).spec.template
- name: limited
  expression: (variables.pod.spec.containers + variables.pod.spec.?initContainers.orValue([])).filter(c, c.?resources.?limits.orValue({}).size() > 0)
{{- end }}
