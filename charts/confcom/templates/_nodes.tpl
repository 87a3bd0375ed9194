{{/* Which platform an installed device plugin is of. Early charts did not label it. */}}
{{- define "confcom.platformOf" -}}
{{- $args := list }}
{{- range .spec.template.spec.containers }}
{{- $args = concat $args (.args | default list) }}
{{- end }}
{{- has "--simulated" $args | ternary "simulated" "hardware" }}
{{- end }}

{{/* The nodes that the values choose for a platform; called with (dict "root" $ "nodes" NODES "platform" NAME). A dict by name,
for fromJson. */}}
{{- define "confcom.chosen" -}}
{{- $spec := include "confcom.placement" (dict "root" .root "platform" .platform "values" (dict "affinity" dict "tolerations" list)) }}
{{- include "confcom.allowed" (list (fromYaml $spec) .nodes) }}
{{- end }}

{{/* The nodes that nodeSelector and required nodeAffinity of a Pod allow, decided as the scheduler decides it; called with
(list POD_SPEC NODES). A dict by name, for fromJson. */}}
{{- define "confcom.allowed" -}}
{{- $spec := index . 0 }}
{{- $affinity := dig "affinity" "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" dict $spec }}
{{- $found := dict }}
{{- range index . 1 }}
{{- $labels := .metadata.labels | default dict }}
{{- $fields := dict "metadata.name" .metadata.name }}
{{- $allowed := true }}
{{- range $key, $value := $spec.nodeSelector }}
{{- $allowed = and $allowed (hasKey $labels $key) (eq (get $labels $key) $value) }}
{{- end }}
{{- $matches := empty $affinity }}
{{- range $affinity.nodeSelectorTerms }}
{{- $holds := or .matchExpressions .matchFields | empty | not }}
{{- range .matchExpressions }}
{{- $holds = and $holds (include "confcom.holds" (list . $labels)) }}
{{- end }}
{{- range .matchFields }}
{{- $holds = and $holds (include "confcom.holds" (list . $fields)) }}
{{- end }}
{{- $matches = or $matches $holds }}
{{- end }}
{{- if and $allowed $matches }}
{{- $_ := set $found .metadata.name true }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* Called with (list EXPRESSION LABELS); not empty if it holds. */}}
{{- define "confcom.holds" -}}
{{- $labels := index . 1 }}
{{- with index . 0 }}
{{- $label := get $labels .key }}
{{- $there := hasKey $labels .key }}
{{- $listed := and $there (has $label .values) }}
{{- $number := regexMatch "^[+-]?[0-9]+$" $label }}
{{- $limit := .values | default list | first | int64 }}
{{- $results := dict
  "In" $listed
  "NotIn" (not $listed)
  "Exists" $there
  "DoesNotExist" (not $there)
  "Gt" (and $number (gt (int64 $label) $limit))
  "Lt" (and $number (lt (int64 $label) $limit))
}}
{{- if get $results .operator }}true{{ end }}
{{- end }}
{{- end }}
