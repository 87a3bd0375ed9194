"""An enclave whose reports no quoting enclave accepts."""

from confcom.simulation.enclave import SimulatedEnclave


class MisledEnclave(SimulatedEnclave):
    """An enclave that makes its reports for itself, whatever target it is given."""

    def create_report(self, target_info, report_data, **kwargs):
        return super().create_report(self.target_info(), report_data, **kwargs)
