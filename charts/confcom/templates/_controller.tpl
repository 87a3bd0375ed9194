{{/* "true" if the controller runs.
Without the policy that adds the enclave device to containers, no node has its EPC as capacity. */}}
{{- define "confcom.controllerOn" -}}
{{- and .Values.controller.enabled (include "confcom.mutatingAdmission" . | eq "on") }}
{{- end }}

{{/* The resource names under which the nodes of all platforms have EPC: a JSON list. */}}
{{- define "confcom.epcResources" -}}
{{- $names := list }}
{{- range $platform := include "confcom.platforms" . | fromYamlArray }}
{{- $names = append $names (include "confcom.resource" (dict "root" $ "platform" $platform "kind" "epc")) }}
{{- end }}
{{- toJson (uniq $names) }}
{{- end }}

{{/* Label selectors for the SGX nodes that the values select, separated by semicolons.
The result is empty for all nodes. The label selectors may select more nodes than the values do, because they omit
conditions on node names. */}}
{{- define "confcom.watchedNodes" -}}
{{- $selectors := list }}
{{- range $platform := include "confcom.platforms" . | fromYamlArray }}
{{- if and (eq $platform "hardware") $.Values.nodeSelectorTerms }}
{{- range $.Values.nodeSelectorTerms }}
{{- if or .matchExpressions .matchFields }}{{ $selectors = append $selectors (include "confcom.termAsSelector" .) }}{{ end }}
{{- end }}
{{- else }}
{{- $all := list }}
{{- range $key, $value := eq $platform "simulated" | ternary $.Values.simulated.nodeSelector $.Values.nodeSelector }}
{{- $all = append $all (printf "%s=%s" $key $value) }}
{{- end }}
{{- $selectors = append $selectors (join "," $all) }}
{{- end }}
{{- end }}
{{- if not (has "" $selectors) }}{{ uniq $selectors | join ";" }}{{ end }}
{{- end }}

{{/* Refuses node conditions that are not valid in a label selector.
The chart puts each condition into a label selector and into CEL. No node can have labels that match the refused
conditions. */}}
{{- define "confcom.checkNodeConditions" -}}
{{- $expressions := list }}
{{- $fields := list }}
{{- range $platform := include "confcom.platforms" . | fromYamlArray }}
{{- if and (eq $platform "hardware") $.Values.nodeSelectorTerms }}
{{- range $.Values.nodeSelectorTerms }}
{{- $expressions = concat $expressions (.matchExpressions | default list) }}
{{- $fields = concat $fields (.matchFields | default list) }}
{{- end }}
{{- else }}
{{- range $key, $value := eq $platform "simulated" | ternary $.Values.simulated.nodeSelector $.Values.nodeSelector }}
{{- $expressions = append $expressions (dict "key" $key "operator" "In" "values" (list $value)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $domain := "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?" }}
{{- $label := "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?" }}
{{- $some := list (printf "^(%s)?$" $label) 1 1000 }}
{{- $none := list "" 0 0 }}
{{- $number := list "^-?[0-9]{1,18}$" 1 1 }}
{{- $name := list (printf "^%s$" $domain) 1 1000 }}
{{- $rules := dict "In" $some "NotIn" $some "Exists" $none "DoesNotExist" $none "Gt" $number "Lt" $number }}
{{- include "confcom.checkConditions" (list $expressions (printf "^(%s/)?%s$" $domain $label) $rules) }}
{{- include "confcom.checkConditions" (list $fields "^metadata[.]name$" (dict "In" $name "NotIn" $name)) }}
{{- end }}

{{/* Called with (list CONDITIONS KEY RULES). KEY is a pattern that each condition's key must match.
RULES has, for each operator, the pattern of values, and their minimum and maximum number. */}}
{{- define "confcom.checkConditions" -}}
{{- $key := index . 1 }}
{{- $rules := index . 2 }}
{{- range index . 0 }}
{{- $values := .values | default list }}
{{- $rule := get $rules .operator | default (list "" 1 0) }}
{{- $fits := and (regexMatch $key .key) (ge (len $values) (index $rule 1)) (le (len $values) (index $rule 2)) }}
{{- range $values }}{{ $fits = and $fits (regexMatch (index $rule 0) .) }}{{ end }}
{{- if not $fits }}
{{- include "confcom.refuse" (list "node-condition-unusable"
  (printf "the controller cannot watch nodes by the condition %s" (toJson .))
  "the controller watches nodes by label selectors, and no node can have such a label or name"
  "write keys and values as Kubernetes has them in labels: letters, digits, - _ and . with at most 63 characters, and a key's prefix with a /;"
  "In and NotIn take values, Gt and Lt one whole number, Exists and DoesNotExist none, and matchFields names nodes by metadata.name"
) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A term's matchExpressions, converted to a label selector. */}}
{{- define "confcom.termAsSelector" -}}
{{- $all := list }}
{{- range .matchExpressions }}
{{- if eq .operator "In" }}{{ $all = append $all (printf "%s in (%s)" .key (join "," .values)) }}
{{- else if eq .operator "NotIn" }}{{ $all = append $all (printf "%s notin (%s)" .key (join "," .values)) }}
{{- else if eq .operator "Exists" }}{{ $all = append $all .key }}
{{- else if eq .operator "DoesNotExist" }}{{ $all = append $all (print "!" .key) }}
{{- else }}{{ $all = append $all (printf "%s%s%s" .key (eq .operator "Gt" | ternary ">" "<") (first .values)) }}
{{- end }}
{{- end }}
{{- join "," $all }}
{{- end }}

{{/* CEL: whether the values select the node as an SGX node.
The expression uses variables.labels and the node's name. */}}
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

{{/* CEL: whether a node matches one of nodeSelectorTerms.
A term without conditions matches no node, as in the scheduler. */}}
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
