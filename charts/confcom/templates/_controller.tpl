{{/* "true" if the controller runs. Without the policy that adds the enclave device, no node has its EPC as capacity. */}}
{{- define "confcom.controllerOn" -}}
{{- and .Values.controller.enabled (include "confcom.mutatingAdmission" . | eq "on") }}
{{- end }}

{{/* The names under which nodes of all platforms have EPC: a JSON list. */}}
{{- define "confcom.epcResources" -}}
{{- $names := list }}
{{- range $platform := include "confcom.platforms" . | fromYamlArray }}
{{- $names = append $names (include "confcom.resource" (dict "root" $ "platform" $platform "kind" "epc")) }}
{{- end }}
{{- toJson (uniq $names) }}
{{- end }}

{{/* CEL: whether a node is one of the SGX nodes of the values, by variables.labels and its name. */}}
{{- define "confcom.chosenNode" -}}
{{- $ways := list }}
{{- range $platform := include "confcom.platforms" . | fromYamlArray }}
{{- if and (eq $platform "hardware") $.Values.nodeSelectorTerms }}
{{- range $.Values.nodeSelectorTerms }}
{{- $ways = append $ways (include "confcom.termInCel" .) }}
{{- end }}
{{- else }}
{{- $labels := eq $platform "simulated" | ternary $.Values.simulated.nodeSelector $.Values.nodeSelector }}
{{- $all := list }}
{{- range $key, $value := $labels }}
{{- $all = append $all (printf "variables.labels[?%s].orValue('') == %s" (squote $key) (squote $value)) }}
{{- end }}
{{- $ways = append $ways (printf "(%s)" (join " && " $all)) }}
{{- end }}
{{- end }}
{{- join " || " $ways }}
{{- end }}

{{/* CEL: whether a node matches one of nodeSelectorTerms. A term without conditions matches none, as for the scheduler. */}}
{{- define "confcom.termInCel" -}}
{{- $all := list }}
{{- range .matchExpressions }}
{{- $key := squote .key }}
{{- $there := printf "%s in variables.labels" $key }}
{{- $listed := printf "(%s && variables.labels[%s] in [%s])" $there $key (include "confcom.quoted" .values) }}
{{- if eq .operator "In" }}{{ $all = append $all $listed }}
{{- else if eq .operator "NotIn" }}{{ $all = append $all (print "!" $listed) }}
{{- else if eq .operator "Exists" }}{{ $all = append $all (printf "(%s)" $there) }}
{{- else if eq .operator "DoesNotExist" }}{{ $all = append $all (printf "!(%s)" $there) }}
{{- else }}
{{- $number := printf "variables.labels[%s].matches('^-?[0-9]{1,18}$') && int(variables.labels[%s])" $key $key }}
{{- $all = append $all (printf "(%s && %s %s %s)" $there $number (eq .operator "Gt" | ternary ">" "<") (first .values)) }}
{{- end }}
{{- end }}
{{- range .matchFields }}
{{- $listed := printf "(oldObject.metadata.name in [%s])" (include "confcom.quoted" .values) }}
{{- $all = append $all (print (eq .operator "In" | ternary "" "!") $listed) }}
{{- end }}
{{- if $all }}({{ join " && " $all }}){{ else }}false{{ end }}
{{- end }}

{{- define "confcom.quoted" -}}
{{- $all := list }}
{{- range . }}{{ $all = append $all (squote .) }}{{ end }}
{{- join ", " $all }}
{{- end }}
