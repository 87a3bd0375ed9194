{{/* Features of the API server decide whether Pods are rewritten and how EPC can be counted.
`helm template` has no API server, so the chart's values decide instead. */}}

{{/* "true" if helm renders the chart with an API server.
Without one, helm lists built-in group versions, but no kinds of the group v1. */}}
{{- define "confcom.live" -}}
{{ .Capabilities.APIVersions.Has "v1/Pod" }}
{{- end }}

{{/* The version of the API server, as in 1.36; empty if unknown. */}}
{{- define "confcom.apiServer" -}}
{{- if .Values.devicePlugin.apiServer -}}
{{ .Values.devicePlugin.apiServer }}
{{- else if include "confcom.live" . | eq "true" -}}
{{ printf "%s.%s" .Capabilities.KubeVersion.Major (regexFind "^[0-9]+" .Capabilities.KubeVersion.Minor) }}
{{- end }}
{{- end }}

{{/* The value admission.mutate as "auto", "on" or "off".
Without quotation marks, YAML reads on and off as booleans. */}}
{{- define "confcom.mutateSetting" -}}
{{- $set := .Values.admission.mutate -}}
{{- if kindIs "bool" $set }}{{ $set | ternary "on" "off" }}{{ else }}{{ $set }}{{ end }}
{{- end }}

{{/* "true" if the API server has MutatingAdmissionPolicy v1.
The group version alone proves nothing, because Kubernetes 1.35 has v1 without this kind. */}}
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

{{/* Whether a node's EPC can be counted as capacity: "supported", or the first reason why not.
Capacity needs the policy that adds the enclave device to containers with EPC, and the controller that writes the
capacity. */}}
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

{{/* The resource names that the device plugins of all platforms offer, and that containers may request.
A JSON list of {epc, enclave, provision, helper, bytes}. "bytes" is Intel's name for the same memory; it is empty for
simulated nodes beside hardware. */}}
{{- define "confcom.epcNames" -}}
{{- $names := list }}
{{- $platforms := include "confcom.platforms" . | fromYamlArray }}
{{- range $platform := $platforms }}
{{- $one := dict "bytes" (eq $platform (last $platforms) | ternary "sgx.intel.com/epc" "") }}
{{- range $kind := list "epc" "enclave" "provision" "helper" }}
{{- $one = set $one $kind (include "confcom.resource" (dict "root" $ "platform" $platform "kind" $kind)) }}
{{- end }}
{{- $names = append $names $one }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{/* CEL: whether Pods in the request's namespace may request the provision device. */}}
{{- define "confcom.mayProvision" -}}
{{- if .Values.provision.policy -}}
request.namespace in {{ prepend .Values.provision.namespaces .Release.Namespace | toJson }}
{{- else -}}
true
{{- end }}
{{- end }}

{{/* The most EPC that a node may have, in MiB. If a request is larger, its author must have meant another unit. */}}
{{- define "confcom.mostEpcMiB" -}}
{{ .Values.controller | default dict | dig "maxEpcMiBPerNode" 1048576 | int64 }}
{{- end }}

{{/* Limits for the policies' cost. Tenants choose the lengths of lists. CEL's own limits do not bound evaluation time.
Pods are refused if they have more containers than the first limit, or more containers that request our resources than
the second. If a Pod has more variables, volumes and mounts than the third limit, the policies do not examine these.
Each kind of object has one validating policy without matchConditions, because the API server converts the object for
every condition, and three times for every policy. */}}
{{- define "confcom.mostContainers" }}1000{{ end }}
{{- define "confcom.mostAsking" }}50{{ end }}
{{- define "confcom.mostParts" }}10000{{ end }}
{{/* Limits for a container that requests our resources.
The characters of an amount are limited, because parsing time is quadratic in the digits (the API server refuses longer
amounts only later). The number of the container's resource limits is limited, because a change of one of them rewrites
all. */}}
{{- define "confcom.longestAmount" }}32{{ end }}
{{- define "confcom.mostLimits" }}100{{ end }}

{{/* CEL variables: a Pod's containers, and the containers that request our resources.
Called with (dict "root" $ "spec" CEL). */}}
{{- define "confcom.askingVariables" -}}
{{- $names := list "sgx.intel.com/epc" }}
{{- range include "confcom.epcNames" .root | fromJsonArray }}{{ $names = concat $names (list .epc .enclave .provision .helper) }}{{ end }}
- name: containers
  expression: {{ .spec }}.containers + {{ .spec }}.?initContainers.orValue([])
- name: all
  expression: >-
    variables.containers.size() > {{ include "confcom.mostContainers" . }} ? [] :
    variables.containers.filter(c, {{ toJson $names }}.exists(name, name in c.?resources.?limits.orValue({})))
- name: asking
  expression: 'variables.all.size() > {{ include "confcom.mostAsking" . }} ? [] : variables.all'
{{- end }}

{{/* The rules by which the policies refuse Pods: a JSON list of {name, when, unless, says, message}.
"when" and "says" are CEL expressions about a container c that has limits; "unless" is a CEL expression about the
request. "message" replaces "says" if "says" is too long. */}}
{{- define "confcom.refusals" -}}
{{- $rules := list }}
{{- $names := include "confcom.epcNames" . | fromJsonArray }}
{{- $mib := list }}
{{- $provision := list }}
{{- $helper := list }}
{{- range $names }}
{{- $mib = append $mib .epc }}
{{- $provision = append $provision .provision }}
{{- $helper = append $helper .helper }}
{{- end }}
{{- $hardware := (last $names).epc }}
{{- if .Values.provision.policy }}
{{- $rules = append $rules (dict "name" "provision"
  "when" (printf `%s.exists(name, name in c.resources.limits && quantity(c.resources.limits[name]).isGreaterThan(quantity("0")))` (toJson $provision))
  "unless" (include "confcom.mayProvision" .)
  "message" (printf "a container asks for %s, which its namespace may not" (join " or " $provision))
  "says" (printf (print
    `"container " + c.name + " asks for %s, which namespace " + request.namespace + " may not: with it an enclave can ask for the platform's`
    ` provisioning key. An application does not need it to get quotes from the quote helper. If this one does, for quotes in process, an administrator`
    ` adds the namespace to the value provision.namespaces of the Helm release %s in %s"`)
    (join " or " $provision) .Release.Name .Release.Namespace)) }}
{{- $rules = append $rules (dict "name" "helperEpc"
  "when" (printf `%s.exists(name, name in c.resources.limits && quantity(c.resources.limits[name]).isGreaterThan(quantity("0")))` (toJson $helper))
  "unless" (printf `request.namespace == %q` .Release.Namespace)
  "message" (printf "a container asks for %s, which is set aside for the quote helper" (join " or " $helper))
  "says" (printf (print
    `"container " + c.name + " asks for %s, which is set aside for the quote helper, so that it can be updated on a full node.`
    ` Applications ask for %s"`) (join " or " $helper) $hardware)) }}
{{- end }}
{{- if .Values.admission.validate }}
{{- $most := include "confcom.mostEpcMiB" . }}
{{- /* The API server writes 1000000 as 1M. If an amount of EPC has a unit, its author meant bytes. */}}
{{- $unit := `matches("([KMGTPE]i|[MGTPE])$")` }}
{{- $tooMuch := printf `name in c.resources.limits && (quantity(c.resources.limits[name]).isGreaterThan(quantity("%s")) || c.resources.limits[name].%s)` $most $unit }}
{{- $rules = append $rules (dict "name" "tooMuch"
  "when" (printf `%s.exists(name, %s)` (toJson $mib) $tooMuch)
  "message" "a container asks for more EPC than any node may have; the amount is in MiB, without a unit"
  "says" (printf (print
    `%s.filter(name, %s).map(name, "container " + c.name + " asks for " + string(quantity(c.resources.limits[name]).asInteger()) + " MiB of EPC: "`
    ` + name + " counts MiB already. " + (c.resources.limits[name].%s && !quantity(c.resources.limits[name]).isGreaterThan(quantity("%sMi"))`
    ` ? "For " + c.resources.limits[name] + " of memory write " + string((quantity(c.resources.limits[name]).asInteger() + 1048575) / 1048576) + ". " : "")`
    ` + "No node has more than %s MiB")[0]`) (toJson $mib) $tooMuch $unit $most $most)) }}
{{- if include "confcom.mutatingAdmission" . | eq "on" }}
{{- $rules = append $rules (dict "name" "tooManyBytes"
  "when" (printf `"sgx.intel.com/epc" in c.resources.limits && quantity(c.resources.limits["sgx.intel.com/epc"]).isGreaterThan(quantity("%sMi"))` $most)
  "message" "a container asks for more EPC by sgx.intel.com/epc than a node may have"
  "says" (printf `"container " + c.name + " asks for more EPC by sgx.intel.com/epc, which counts bytes, than the %sMi that a node may have"` $most)) }}
{{- end }}
{{- $count := list }}
{{- $without := list }}
{{- $enclaves := list }}
{{- range $names }}
{{- $amount := printf `quantity(c.resources.limits[%q])` .enclave }}
{{- $epc := printf `(%q in c.resources.limits && quantity(c.resources.limits[%q]).isGreaterThan(quantity("0")))` .epc .epc }}
{{- $enclaves = append $enclaves .enclave }}
{{- $count = append $count (printf `%q in c.resources.limits && (%s.isGreaterThan(quantity("1")) || %s.isLessThan(quantity("1")) && %s)` .enclave $amount $amount $epc) }}
{{- $without = append $without (printf `%q in c.resources.limits && %s.isGreaterThan(quantity("0")) && !%s` .enclave $amount $epc) }}
{{- end }}
{{- $rules = append $rules (dict "name" "enclaves"
  "when" (join " || " $count)
  "message" (printf "a container asks for another number of %s than 1" (join " or " $enclaves))
  "says" (printf (print
    `"container " + c.name + " asks for another number of %s than 1: a container uses one, and other containers on its node would miss the rest.`
    ` Write 1; a container with EPC gets it without being asked for"`) (join " or " $enclaves))) }}
{{- if .Values.admission.requireEpc }}
{{- $rules = append $rules (dict "name" "withoutEpc"
  "when" (printf `!("sgx.intel.com/epc" in c.resources.limits) && (%s)` (join " || " $without))
  "message" (printf "a container asks for %s without EPC" (join " or " $enclaves))
  "says" (printf (print
    `"container " + c.name + " asks for %s without EPC, which the value admission.requireEpc of the Helm release %s in %s forbids.`
    ` Ask for %s"`) (join " or " $enclaves) .Release.Name .Release.Namespace $hardware)) }}
{{- end }}
{{- end }}
{{- toJson $rules }}
{{- end }}
